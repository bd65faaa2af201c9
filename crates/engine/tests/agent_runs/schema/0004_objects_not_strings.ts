// Arguments and most results were JSON inside a string.
export const description = "Parse JSON that was kept in strings";

interface Call {
  function: { name: string; arguments: unknown };
  result?: { name: string; content: unknown };
}

interface Run {
  traj: { tool_calls?: Call[] }[];
}

const eachCall = (run: Run, change: (call: Call) => Call) => ({
  ...run,
  traj: run.traj.map((m) => (m.tool_calls ? { ...m, tool_calls: m.tool_calls.map(change) } : m)),
});

const parsed = (text: unknown) => {
  if (typeof text !== "string" || !/^[[{]/.test(text)) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
};

const printed = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));

export const up = (run: Run) =>
  eachCall(run, (call) => ({
    ...call,
    function: { ...call.function, arguments: parsed(call.function.arguments) },
    ...(call.result && { result: { ...call.result, content: parsed(call.result.content) } }),
  }));

export const down = (run: Run) =>
  eachCall(run, (call) => ({
    ...call,
    function: { ...call.function, arguments: printed(call.function.arguments) },
    ...(call.result && { result: { ...call.result, content: printed(call.result.content) } }),
  }));

export const validate = (run: Run) =>
  run.traj.every((m) => (m.tool_calls ?? []).every((c) => typeof c.function.arguments === "object"));
