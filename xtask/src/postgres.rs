//! A private PostgreSQL: own data directory, own port, gone when this process is gone.

use crate::certificate::{self, Certificates};
use crate::{Outcome, process};
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const USER: &str = "whimbrel";
/// A password, so that tests exercise the login and can look for it in logs.
const PASSWORD: &str = "curlew-7421";
const DATABASE: &str = "whimbrel";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Loses data with the machine: for tests.
    Off,
    /// The server's own defaults: for benchmarks.
    Default,
}

#[derive(Clone, Copy)]
pub struct Options {
    /// Only TLS connections are let in.
    pub tls: bool,
    pub durability: Durability,
}

pub struct Postgres {
    watchdog: Child,
    bin: PathBuf,
    port: u16,
    authority: Option<PathBuf>,
}

impl Postgres {
    /// Starts a server and creates an empty database in it.
    pub fn start(options: Options) -> Outcome<Self> {
        let bin = programs()?;
        let mut error = String::new();
        // Somebody may take the free port between our look and the server's start.
        for _ in 0..3 {
            match Self::start_on(&bin, free_port()?, options) {
                Ok(server) => return Ok(server),
                Err(said) => error = said,
            }
        }
        Err(format!("PostgreSQL does not start: {error}"))
    }

    fn start_on(bin: &Path, port: u16, options: Options) -> Outcome<Self> {
        let owner = Owner::choose()?;
        let dir = tempfile::Builder::new()
            .prefix("whimbrel-postgres-")
            .tempdir()
            .map_err(|error| format!("cannot make a temporary directory: {error}"))?;
        let certificates = if options.tls {
            Some(certificate::make(dir.path())?)
        } else {
            None
        };
        // Readable by all: where we are root, the server's user is another one, and clients read the
        // authority's certificate.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))
            .map_err(|e| e.to_string())?;
        owner.take_over(dir.path())?;
        initialise(bin, dir.path(), &owner, options.durability)?;
        configure(dir.path(), port, options.durability, certificates.as_ref())?;
        owner.take_over(dir.path())?;

        // From here on the watchdog owns the directory.
        let dir = dir.keep();
        let watchdog = watchdog(bin, &dir, &owner)?;
        let server = Self {
            watchdog,
            bin: bin.to_owned(),
            port,
            authority: certificates.map(|made| made.authority),
        };
        server.wait_until_ready(&dir)?;
        server.psql(&format!("CREATE DATABASE {DATABASE}"), "postgres")?;
        Ok(server)
    }

    fn wait_until_ready(&self, dir: &Path) -> Outcome<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut ready = self.tool("pg_isready");
            if process::output(ready.arg("-q")).is_ok() {
                return Ok(());
            }
            let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
            if log.contains("database system is shut down") || Instant::now() > deadline {
                return Err(format!("the server's log says:\n{}", log.trim()));
            }
            sleep(Duration::from_millis(30));
        }
    }

    /// One of the server's programs, set up to connect to it.
    pub fn tool(&self, program: &str) -> Command {
        self.connected(Command::new(self.bin.join(program)))
    }

    /// Another program that reads the usual `PG…` variables.
    pub fn tool_elsewhere(&self, program: &str) -> Command {
        self.connected(Command::new(program))
    }

    fn connected(&self, mut command: Command) -> Command {
        // The server's certificate is for the name and the address; `verify-full` is to look at a name.
        let host = if self.authority.is_some() {
            "localhost"
        } else {
            "127.0.0.1"
        };
        command
            .env("PGHOST", host)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", USER)
            .env("PGPASSWORD", PASSWORD)
            .env("PGDATABASE", DATABASE);
        if let Some(authority) = &self.authority {
            command
                .env("PGSSLMODE", "verify-full")
                .env("PGSSLROOTCERT", authority);
        }
        command
    }

    /// Runs SQL in `database` and gives its rows, unaligned and without headings.
    fn psql(&self, sql: &str, database: &str) -> Outcome<String> {
        process::output(self.tool("psql").args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            database,
            "-c",
            sql,
        ]))
    }

    /// Runs SQL and gives its rows, unaligned and without headings.
    pub fn query(&self, sql: &str) -> Outcome<String> {
        self.psql(sql, DATABASE).map(|rows| rows.trim().to_owned())
    }

    /// Replaces the database by an empty one, or by a copy of another, and writes all to disk, so that
    /// whoever comes next does not pay for those before.
    pub fn fresh_database(&self, template: Option<&str>) -> Outcome<()> {
        self.psql(
            &format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"),
            "postgres",
        )?;
        let template = template.map_or_else(String::new, |name| format!(" TEMPLATE {name}"));
        self.psql(
            &format!("CREATE DATABASE {DATABASE}{template} STRATEGY file_copy"),
            "postgres",
        )?;
        self.psql("CHECKPOINT", "postgres").map(drop)
    }

    /// Keeps the database as it is now under another name, to be a template.
    pub fn keep_as(&self, name: &str) -> Outcome<()> {
        self.psql(&format!("DROP DATABASE IF EXISTS {name}"), "postgres")?;
        self.psql(
            &format!("ALTER DATABASE {DATABASE} RENAME TO {name}"),
            "postgres",
        )?;
        self.fresh_database(None)
    }

    /// An empty database beside the usual one, replacing one that has the name: its URL.
    pub fn another_database(&self, name: &str) -> Outcome<String> {
        self.psql(
            &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            "postgres",
        )?;
        self.psql(&format!("CREATE DATABASE {name}"), "postgres")?;
        Ok(self.url_of(name))
    }

    /// With the password: for the environment of tests, never for a log.
    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    fn url_of(&self, database: &str) -> String {
        let (port, login) = (self.port, format!("{USER}:{PASSWORD}"));
        match &self.authority {
            None => format!("postgres://{login}@127.0.0.1:{port}/{database}"),
            Some(authority) => format!(
                "postgres://{login}@localhost:{port}/{database}?sslmode=verify-full&sslrootcert={}",
                authority.display()
            ),
        }
    }

    pub fn version(&self) -> Outcome<String> {
        self.query("SHOW server_version")
    }
}

impl Drop for Postgres {
    /// Ends the watchdog's input and waits until it has stopped the server and removed the directory.
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        if let Err(error) = self.watchdog.wait() {
            eprintln!("xtask: cannot wait for PostgreSQL's end: {error}");
        }
    }
}

/// The server stands under a shell that waits for the end of its input, which only this process can
/// write to: however this process ends, even by `kill -9`, the shell stops the server and removes
/// its directory. In a process group of its own, so that a Ctrl-C in the terminal leaves it alone.
fn watchdog(bin: &Path, dir: &Path, owner: &Owner) -> Outcome<Child> {
    const SCRIPT: &str = r#"
        "$1/postgres" -D "$2/data" >"$2/log" 2>&1 </dev/null &
        server=$!
        while read -r _; do :; done
        kill -INT "$server" 2>/dev/null
        wait "$server"
        cd /
        rm -rf "$2"
    "#;
    let mut shell = Command::new("sh");
    shell
        .args(["-c", SCRIPT, "whimbrel-postgres"])
        .arg(bin)
        .arg(dir);
    owner
        .run_as(&mut shell, dir)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start a shell: {error}"))
}

fn initialise(bin: &Path, dir: &Path, owner: &Owner, durability: Durability) -> Outcome<()> {
    let password = dir.join("password");
    fs::write(&password, PASSWORD).map_err(|error| error.to_string())?;
    fs::set_permissions(&password, Permissions::from_mode(0o644)).map_err(|e| e.to_string())?;
    let mut initdb = Command::new(bin.join("initdb"));
    initdb
        .args([
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--auth=scram-sha-256",
        ])
        .arg(format!("--username={USER}"))
        .arg("--pwfile")
        .arg(&password)
        .arg("-D")
        .arg(dir.join("data"));
    if durability == Durability::Off {
        initdb.arg("--no-sync");
    }
    process::output(owner.run_as(&mut initdb, dir))?;
    fs::remove_file(password).map_err(|error| error.to_string())
}

fn configure(
    dir: &Path,
    port: u16,
    durability: Durability,
    certificates: Option<&Certificates>,
) -> Outcome<()> {
    let data = dir.join("data");
    let mut lines = format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\n\
         max_connections = 200\nlog_min_messages = log\n"
    );
    if durability == Durability::Off {
        lines += "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n";
    }
    if let Some(made) = certificates {
        lines += &format!(
            "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
            made.server_certificate.display(),
            made.server_key.display()
        );
        let access = "hostssl all all 127.0.0.1/32 scram-sha-256\n";
        fs::write(data.join("pg_hba.conf"), access).map_err(|error| error.to_string())?;
    }
    let file = data.join("postgresql.conf");
    let before = fs::read_to_string(&file).map_err(|error| error.to_string())?;
    fs::write(&file, format!("{before}\n{lines}")).map_err(|error| error.to_string())
}

/// As whom the server runs: it refuses to run as root.
struct Owner {
    /// User and group, where it is not ourselves.
    ids: Option<(u32, u32)>,
}

impl Owner {
    fn choose() -> Outcome<Self> {
        if !process::is_root() {
            return Ok(Self { ids: None });
        }
        let users = fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
        let ids = ["postgres", "nobody"]
            .iter()
            .find_map(|name| ids_of(&users, name));
        if ids.is_none() {
            return Err(
                "PostgreSQL does not run as root, and /etc/passwd has neither `postgres` nor `nobody`"
                    .to_owned(),
            );
        }
        Ok(Self { ids })
    }

    /// Gives the directory and all in it to the server's user, and closes private keys to others (the
    /// server refuses to start otherwise).
    fn take_over(&self, path: &Path) -> Outcome<()> {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        if path.extension().is_some_and(|extension| extension == "key") {
            fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        }
        if let Some((user, group)) = self.ids
            && metadata.uid() != user
        {
            chown(path, Some(user), Some(group)).map_err(failed)?;
        }
        if metadata.is_dir() {
            for entry in fs::read_dir(path).map_err(failed)? {
                self.take_over(&entry.map_err(failed)?.path())?;
            }
        }
        Ok(())
    }

    fn run_as<'a>(&self, command: &'a mut Command, dir: &Path) -> &'a mut Command {
        command.current_dir(dir).env("HOME", dir);
        if let Some((user, group)) = self.ids {
            command.uid(user).gid(group);
        }
        command
    }
}

fn ids_of(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let mut parts = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|parts| parts.first() == Some(&name))?
        .into_iter()
        .skip(2);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

pub fn free_port() -> Outcome<u16> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no free port: {error}"))
}

/// The directory of the newest installed server's programs; installs one where there is none.
fn programs() -> Outcome<PathBuf> {
    if let Some(bin) = newest_installed() {
        return Ok(bin);
    }
    process::install_package("postgresql", "the PostgreSQL server")?;
    newest_installed().ok_or_else(|| {
        "`postgresql` is installed, but /usr/lib/postgresql/*/bin/postgres does not exist"
            .to_owned()
    })
}

fn newest_installed() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql")
        .ok()
        .and_then(|entries| {
            entries
                .flatten()
                .filter_map(|entry| {
                    let version: u32 = entry.file_name().to_str()?.parse().ok()?;
                    Some((version, entry.path().join("bin")))
                })
                .filter(|(_, bin)| bin.join("postgres").is_file() && bin.join("initdb").is_file())
                .max()
                .map(|(_, bin)| bin)
        });
    debian.or_else(|| Some(process::find("initdb")?.parent()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\npostgresql:x:7:7::/:\npostgres:x:105:112:,,,:/:";
        assert_eq!(ids_of(passwd, "postgres"), Some((105, 112)));
        assert_eq!(ids_of(passwd, "nobody"), None);
        assert_eq!(ids_of("postgres:x:many", "postgres"), None);
    }

    #[test]
    fn ports_are_free() {
        let port = free_port().unwrap();
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
    }
}
