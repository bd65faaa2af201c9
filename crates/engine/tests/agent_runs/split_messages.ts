export const transform = (run: { traj: object[] }, { key }: { key: string }) =>
  run.traj.map((message, seq) => ({ key: `${key}:${seq}`, data: { run: key, seq, ...message } }));
