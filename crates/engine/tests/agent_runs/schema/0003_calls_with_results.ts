// A tool's result was a message of its own behind the call; now it is part of the call. Ids repeat, even
// inside one run, so a result belongs to the first call before it that has its id and no result yet.
export const description = "Join tool calls with their results";

interface Call {
  id: string;
  function: { name: string; arguments: string };
  result?: { name: string; content: string };
}

interface Message {
  role: string;
  content?: string;
  tool_calls?: Call[];
  tool_call_id?: string;
  name?: string;
}

interface Run {
  traj: Message[];
}

export const up = (run: Run) => {
  const traj: Message[] = [];
  for (const message of run.traj) {
    if (message.role !== "tool") {
      traj.push(message.tool_calls ? { ...message, tool_calls: message.tool_calls.map((c) => ({ ...c })) } : message);
      continue;
    }
    const call = traj.at(-1)?.tool_calls?.find((c) => c.id === message.tool_call_id && !c.result);
    if (!call) throw new Error("a tool's result has no call before it");
    call.result = { name: message.name!, content: message.content! };
  }
  return { ...run, traj };
};

export const down = (run: Run) => ({
  ...run,
  traj: run.traj.flatMap((message) => {
    if (!message.tool_calls) return [message];
    const calls = message.tool_calls.map(({ result, ...call }) => call);
    const results = message.tool_calls
      .filter((c) => c.result)
      .map((c) => ({ role: "tool", tool_call_id: c.id, name: c.result!.name, content: c.result!.content }));
    return [{ ...message, tool_calls: calls }, ...results];
  }),
});

export const validate = (run: Run) => run.traj.every((message) => message.role !== "tool");
