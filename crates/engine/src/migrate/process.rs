//! Runs a program of the team's own: no shell, a process group of its own, an end that is always known.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

/// What a program that is asked to stop may take to clean up.
const GRACE: Duration = Duration::from_secs(3);
/// How long output is still read after the program's end: something that it left running may hold the
/// pipe open for ever.
const LINGER: Duration = Duration::from_millis(500);

/// A program to run.
pub(crate) struct Program {
    /// Its name and its arguments.
    pub command: Vec<String>,
    pub folder: PathBuf,
    /// Besides what this process's environment says.
    pub env: Vec<(String, String)>,
    /// `None`: closed.
    pub stdin: Option<Vec<u8>>,
    /// How many bytes of the output's end are kept.
    pub keep: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Exit(i32),
    /// Killed by somebody else.
    Signal(i32),
    /// Killed by us.
    Stopped,
}

/// What became of a program that was started.
#[derive(Debug)]
pub(crate) struct Finished {
    pub ended: Ended,
    pub output: Output,
}

/// The end of what a program wrote.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    pub tail: Vec<u8>,
    /// Whether `tail` lacks a beginning.
    pub cut: bool,
    pub lines: u64,
}

impl Program {
    /// Runs it to its end, or until `stop` resolves: then it and its children are killed. They are also
    /// killed when the future is dropped.
    ///
    /// # Errors
    /// It could not be started, or not be waited for.
    pub(crate) async fn run(&self, stop: impl Future<Output = ()>) -> Result<Finished, Trouble> {
        let child = self
            .command()?
            .spawn()
            .map_err(|error| self.not_started(&error))?;
        let mut group = Group(child);
        let output = Mutex::new(Output::default());
        let (stdin, stdout, stderr) = (
            group.0.stdin.take(),
            group.0.stdout.take(),
            group.0.stderr.take(),
        );
        let pipes = async {
            tokio::join!(
                self.feed(stdin),
                self.drain(stdout, &output),
                self.drain(stderr, &output)
            );
        };
        tokio::pin!(pipes);
        let mut open = true;
        let ended = {
            let end = group.end(stop);
            tokio::pin!(end);
            loop {
                tokio::select! {
                    ended = &mut end => break ended.map_err(Trouble::Wait)?,
                    () = &mut pipes, if open => open = false,
                }
            }
        };
        if open {
            let _ = tokio::time::timeout(LINGER, pipes).await;
        }
        let output = output.lock().map(|o| o.clone()).unwrap_or_default();
        Ok(Finished { ended, output })
    }

    fn command(&self) -> Result<Command, Trouble> {
        let (name, arguments) = self
            .command
            .split_first()
            .ok_or_else(|| Trouble::Start("no command is given".to_owned()))?;
        let folder = std::path::absolute(&self.folder).map_err(|error| self.not_started(&error))?;
        // Whether `./notify.sh` begins here or there would otherwise hang on the platform.
        let program = if name.contains('/') {
            folder.join(name)
        } else {
            PathBuf::from(name)
        };
        let pipe = |wanted: bool| {
            if wanted {
                Stdio::piped()
            } else {
                Stdio::null()
            }
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(folder)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(pipe(self.stdin.is_some()))
            .stdout(pipe(self.keep > 0))
            .stderr(pipe(self.keep > 0))
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }

    fn not_started(&self, error: &io::Error) -> Trouble {
        let missing = error.kind() == io::ErrorKind::NotFound;
        Trouble::Start(if missing && !self.folder.is_dir() {
            format!("there is no folder {}", self.folder.display())
        } else if missing {
            "there is no such program".to_owned()
        } else {
            error.kind().to_string()
        })
    }

    async fn feed(&self, stdin: Option<ChildStdin>) {
        if let (Some(mut stdin), Some(bytes)) = (stdin, &self.stdin) {
            // A program that does not read its input is its own business.
            let _ = stdin.write_all(bytes).await;
        }
    }

    async fn drain(&self, pipe: Option<impl AsyncRead + Unpin>, output: &Mutex<Output>) {
        let Some(mut pipe) = pipe else { return };
        let mut buffer = vec![0; 8 * 1024];
        while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
            if let Ok(mut output) = output.lock() {
                output.take(&buffer[..read], self.keep);
            }
        }
    }
}

/// Why nothing, or nothing more, is known of a program.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It never ran, and why.
    Start(String),
    Wait(io::Error),
}

impl Output {
    fn take(&mut self, bytes: &[u8], keep: usize) {
        self.lines += bytes.iter().filter(|b| **b == b'\n').count() as u64;
        self.tail.extend_from_slice(bytes);
        if self.tail.len() > keep {
            let surplus = self.tail.len() - keep;
            self.tail.drain(..surplus);
            self.cut = true;
        }
    }
}

/// A child and the group it leads. Whoever lets it go early kills them all.
struct Group(Child);

impl Group {
    async fn end(&mut self, stop: impl Future<Output = ()>) -> io::Result<Ended> {
        let status = tokio::select! {
            status = self.0.wait() => status?,
            () = stop => {
                let id = self.id();
                self.signal(id, Signal::TERM);
                let _ = tokio::time::timeout(GRACE, self.0.wait()).await;
                // Children may have outlived their parent, and the group keeps its id while one lives.
                self.signal(id, Signal::KILL);
                self.0.wait().await?;
                return Ok(Ended::Stopped);
            }
        };
        // tidy: allow process::exit because it is how a status names its signal
        use std::os::unix::process::ExitStatusExt;
        Ok(match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Exit(code),
            (None, signal) => Ended::Signal(signal.unwrap_or(0)),
        })
    }

    /// `None` once it has ended and was waited for.
    fn id(&self) -> Option<Pid> {
        self.0
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
    }

    fn signal(&self, id: Option<Pid>, signal: Signal) {
        if let Some(id) = id {
            // It may just have ended.
            let _ = kill_process_group(id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(self.id(), Signal::KILL);
    }
}
