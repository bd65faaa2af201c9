"""SQLite to PostgreSQL with DuckDB. Arguments: the SQLite file, the server's connection string."""

import glob
import site
import sys

import duckdb

database, server = sys.argv[1:]
db = duckdb.connect()
for name in ("sqlite_scanner", "postgres_scanner"):
    pattern = f"duckdb_extension_{name}/extensions/*/{name}.duckdb_extension"
    found = [path for dir in site.getsitepackages() for path in glob.glob(f"{dir}/{pattern}")]
    db.execute(f"LOAD '{found[0]}'")
db.execute(f"ATTACH '{database}' AS app (TYPE sqlite, READ_ONLY)")
db.execute(f"ATTACH '{server}' AS pg (TYPE postgres)")
db.execute("INSERT INTO pg.public.conversations SELECT id, data FROM app.conversations")
