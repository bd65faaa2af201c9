// What most people write: read each document, change it, await its update.
// Argument: how many documents. The server: PG* variables.
import pg from "pg";

const limit = Number(process.argv[2]);
const client = new pg.Client();
await client.connect();

const up = ({ title, ...rest }) => ({
  ...rest,
  metadata: { totalTokens: 0, toolCallCount: 0 },
  name: title,
  archived: false,
  _schemaVersion: 3,
});

let after = "";
let done = 0;
while (done < limit) {
  const { rows } = await client.query(
    "SELECT id, data FROM conversations WHERE id > $1 ORDER BY id LIMIT $2",
    [after, Math.min(500, limit - done)],
  );
  if (rows.length === 0) break;
  for (const { id, data } of rows) {
    await client.query("UPDATE conversations SET data = $2 WHERE id = $1", [id, up(data)]);
  }
  after = rows.at(-1).id;
  done += rows.length;
}
await client.end();
