// What most people write: documents into PostgreSQL, one awaited upsert after the other, or some at once.
// Arguments: a file of `id,"json"` lines, how many of them, how many a statement. The server: PG* variables.
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import pg from "pg";

const [file, limit, batch] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const client = new pg.Client();
await client.connect();

async function upsert(rows) {
  const values = rows.map((_, i) => `($${i * 2 + 1}, $${i * 2 + 2})`).join(", ");
  await client.query(
    `INSERT INTO conversations (id, data) VALUES ${values} ON CONFLICT (id) DO UPDATE SET data = excluded.data`,
    rows.flat(),
  );
}

let rows = [];
let read = 0;
for await (const line of createInterface({ input: createReadStream(file) })) {
  if (read++ === limit) break;
  const comma = line.indexOf(",");
  const document = JSON.parse(line.slice(comma + 2, -1).replaceAll('""', '"'));
  rows.push([line.slice(0, comma), document]);
  if (rows.length === batch) {
    await upsert(rows);
    rows = [];
  }
}
if (rows.length > 0) await upsert(rows);
await client.end();
