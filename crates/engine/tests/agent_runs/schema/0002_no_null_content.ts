// An assistant message that only calls tools was recorded with `content: null`; now it has no content.
export const description = "Omit content that is null";

interface Message {
  role: string;
  content?: string | null;
}

interface Run {
  traj: Message[];
}

export const up = (run: Run) => ({
  ...run,
  traj: run.traj.map(({ content, ...rest }) => (content === null ? rest : { content, ...rest })),
});

export const down = (run: Run) => ({
  ...run,
  traj: run.traj.map((message) => ("content" in message ? message : { content: null, ...message })),
});

export const validate = (run: Run) => run.traj.every((message) => message.content !== null);
