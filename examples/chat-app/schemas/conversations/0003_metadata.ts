import type { Up, Down, Validate } from "../../whimbrel";

export const description = "Tool calls carry their results; a conversation carries its sums";

type Call = { id: string; name: string; arguments: unknown; result?: Result };
type Result = { id: string; content: string; createdAt: Date };
type Message = {
  id: string;
  role: "user" | "assistant" | "tool";
  content: string | null;
  createdAt: Date;
  toolCalls?: Call[];
  toolCallId?: string;
};

// About what tokenizers make of English text.
const tokens = (message: Message) => Math.ceil((message.content ?? "").length / 4);

export const up: Up = (doc) => {
  const results = new Map<string, Result>();
  for (const { role, toolCallId, id, content, createdAt } of doc.messages as Message[]) {
    if (role === "tool") results.set(toolCallId, { id, content, createdAt });
  }
  const join = (call: Call): Call => {
    const joined: Call = { ...call, arguments: JSON.parse(call.arguments as string) };
    const result = results.get(call.id);
    return result ? { ...joined, result } : joined;
  };
  const messages = doc.messages
    .filter((message: Message) => message.role !== "tool")
    .map((message: Message) =>
      message.toolCalls ? { ...message, toolCalls: message.toolCalls.map(join) } : message,
    );
  return {
    ...doc,
    messages,
    metadata: {
      totalTokens: doc.messages.reduce((sum: number, m: Message) => sum + tokens(m), 0),
      toolCallCount: messages.reduce((sum: number, m: Message) => sum + (m.toolCalls?.length ?? 0), 0),
      lastActivityAt: doc.messages.at(-1)?.createdAt ?? doc.updatedAt,
    },
  };
};

export const down: Down = ({ metadata, ...doc }) => ({
  ...doc,
  messages: doc.messages.flatMap((message: Message) => {
    if (!message.toolCalls) return [message];
    const split = message.toolCalls.map(({ result, ...call }) => ({
      ...call,
      arguments: JSON.stringify(call.arguments),
    }));
    const results = message.toolCalls.flatMap(({ id: toolCallId, result }) =>
      result
        ? [{ id: result.id, role: "tool", toolCallId, content: result.content, createdAt: result.createdAt }]
        : [],
    );
    return [{ ...message, toolCalls: split }, ...results];
  }),
});

export const validate: Validate = (doc) =>
  typeof doc.metadata?.totalTokens === "number" &&
  doc.messages.every((message: Message) => message.role !== "tool");
