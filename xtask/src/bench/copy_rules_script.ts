export const transform = ({ title, ...rest }) => ({
  ...rest,
  metadata: { totalTokens: 0, toolCallCount: 0 },
  name: title,
});
