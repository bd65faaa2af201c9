//! One collection's file: lines are appended, and the void ones are dropped at the end.

use super::index::{self, BadLine, LoadError, Loaded, Place};
use super::source::{self, Opened};
use bytes::Bytes;
use std::fs::{File, OpenOptions as FileOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Lines that stand this close together are read at once.
const SPAN: u64 = 1 << 20;
const LEVEL: i32 = 3;

/// What appending needs to know; one writer at a time has it.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    compressed: bool,
    pub(super) loaded: Loaded,
    /// Opened by the first write.
    file: Option<File>,
    /// How much of the file counts; what stands behind it was cut off in a crash.
    file_end: u64,
    dirty: bool,
    /// A write failed in a way that leaves the file unknown.
    pub(super) broken: bool,
}

/// Where documents are read from, while others may be appended.
#[derive(Debug)]
pub(super) struct Lines(Mutex<File>);

/// Why lines could not be appended.
#[derive(Debug)]
pub(super) enum AppendError {
    /// Nothing was written.
    Nothing(io::Error),
    /// Whether it was written is unknown.
    Unknown(io::Error),
    /// The file is not as it was left.
    Changed,
}

/// Reads a file into an index at `index`.
pub(super) fn open(
    path: &Path,
    compressed: bool,
    index: &Path,
    id: &str,
    limit: usize,
) -> Result<(Log, Lines), LoadError> {
    let opened = source::open(path, compressed)?;
    let loaded = index::load(&opened, index, id, limit)?;
    if loaded.torn {
        tracing::warn!(file = %path.display(), "the file's end was cut off in a crash and is left out");
    }
    let Opened {
        lines, frames_end, ..
    } = opened;
    let log = Log {
        path: path.canonicalize()?,
        compressed,
        file: None,
        file_end: frames_end.unwrap_or(loaded.lines_end),
        loaded,
        dirty: false,
        broken: false,
    };
    Ok((log, Lines(Mutex::new(lines))))
}

impl Lines {
    fn lock(&self) -> std::sync::MutexGuard<'_, File> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The lines at `places`, in that order.
    pub(super) fn read(&self, places: &[Place]) -> io::Result<Vec<Bytes>> {
        use std::io::Read;
        let mut found = Vec::with_capacity(places.len());
        let mut rest = places;
        while let Some(first) = rest.first() {
            let mut end = first.at + first.length;
            let mut taken = 1;
            for next in &rest[1..] {
                let next_end = next.at + next.length;
                if next.at < end || next.at > end + 4096 || next_end > first.at + SPAN {
                    break;
                }
                end = next_end;
                taken += 1;
            }
            let length = usize::try_from(end - first.at).map_err(io::Error::other)?;
            let mut span = vec![0; length];
            {
                let mut file = self.lock();
                file.seek(SeekFrom::Start(first.at))?;
                file.read_exact(&mut span)?;
            }
            let span = Bytes::from(span);
            for place in &rest[..taken] {
                let at = usize::try_from(place.at - first.at).map_err(io::Error::other)?;
                let length = usize::try_from(place.length).map_err(io::Error::other)?;
                found.push(span.slice(at..at + length));
            }
            rest = &rest[taken..];
        }
        Ok(found)
    }

    fn append(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.lock();
        file.set_len(at)?;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    }
}

impl Log {
    /// Where the next appended line will stand, in the plain lines.
    pub(super) fn next_at(&self) -> u64 {
        self.loaded.lines_end + u64::from(self.loaded.unterminated)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines durably. Returns a way back for when another file of the same batch fails.
    pub(super) fn append(&mut self, lines: &Lines, bytes: &[u8]) -> Result<Undo, AppendError> {
        let mut plain = Vec::new();
        let plain: &[u8] = if self.loaded.unterminated {
            plain.push(b'\n');
            plain.extend_from_slice(bytes);
            &plain
        } else {
            bytes
        };
        let undo = Undo {
            file_end: self.file_end,
            lines_end: self.loaded.lines_end,
            unterminated: self.loaded.unterminated,
        };
        let packed;
        let written = if self.compressed {
            packed = pack(plain).map_err(AppendError::Nothing)?;
            &packed
        } else {
            plain
        };
        let known = self.file_end;
        let torn = self.loaded.torn;
        let file = self.file()?;
        let length = file.metadata().map_err(AppendError::Nothing)?.len();
        if length != known && !(torn && length > known) {
            return Err(AppendError::Changed);
        }
        let put = |mut file: &File| -> io::Result<()> {
            if length > known {
                file.set_len(known)?;
            }
            file.seek(SeekFrom::Start(known))?;
            file.write_all(written)?;
            file.sync_data()
        };
        if let Err(error) = put(file) {
            let back = file.set_len(known).and_then(|()| file.sync_data());
            self.loaded.torn = false;
            self.broken = back.is_err();
            return Err(match back {
                Ok(()) => AppendError::Nothing(error),
                Err(_) => AppendError::Unknown(error),
            });
        }
        if self.compressed
            && let Err(error) = lines.append(self.loaded.lines_end, plain)
        {
            self.broken = true;
            return Err(AppendError::Unknown(error));
        }
        self.file_end += written.len() as u64;
        self.loaded.lines_end += plain.len() as u64;
        self.loaded.unterminated = false;
        self.loaded.torn = false;
        self.dirty = true;
        Ok(undo)
    }

    /// Takes back the last append.
    pub(super) fn undo(&mut self, undo: &Undo) -> Result<(), AppendError> {
        let file = self.file()?;
        let back = file.set_len(undo.file_end).and_then(|()| file.sync_data());
        if let Err(error) = back {
            self.broken = true;
            return Err(AppendError::Unknown(error));
        }
        self.file_end = undo.file_end;
        self.loaded.lines_end = undo.lines_end;
        self.loaded.unterminated = undo.unterminated;
        Ok(())
    }

    fn file(&mut self) -> Result<&mut File, AppendError> {
        match &mut self.file {
            Some(file) => Ok(file),
            none => {
                let opened = FileOptions::new().read(true).write(true).open(&self.path);
                Ok(none.insert(opened.map_err(AppendError::Nothing)?))
            }
        }
    }

    /// Writes the file anew where a write left void lines or disorder: one line a document, in key order,
    /// behind the lines that are no documents. A crash leaves either file whole.
    pub(super) fn compact(&mut self, lines: &Lines, index: &Path) -> Result<bool, LoadError> {
        let needless = self.loaded.void == 0 && self.loaded.ordered;
        if !self.dirty || self.broken || needless {
            return Ok(false);
        }
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let mut fresh = tempfile::NamedTempFile::new_in(directory)?;
        fresh
            .as_file()
            .set_permissions(std::fs::metadata(&self.path)?.permissions())?;
        let output = BufWriter::with_capacity(1 << 18, fresh.as_file_mut());
        if self.compressed {
            let mut output = zstd::Encoder::new(output, LEVEL)?;
            output.include_checksum(true)?;
            copy(lines, index, &self.loaded.bad, &mut output)?;
            output.finish()?.flush()?;
        } else {
            let mut output = output;
            copy(lines, index, &self.loaded.bad, &mut output)?;
            output.flush()?;
        }
        fresh.as_file().sync_all()?;
        fresh.persist(&self.path).map_err(|e| e.error)?;
        sync_directory(directory)?;
        self.dirty = false;
        Ok(true)
    }
}

/// How far the file and its lines reached before an append.
#[derive(Debug)]
pub(super) struct Undo {
    file_end: u64,
    lines_end: u64,
    unterminated: bool,
}

fn copy(
    lines: &Lines,
    index: &Path,
    bad: &[BadLine],
    output: &mut impl Write,
) -> Result<(), LoadError> {
    for line in bad {
        let mut file = lines.lock();
        file.seek(SeekFrom::Start(line.at))?;
        io::copy(&mut io::Read::take(&mut *file, line.length), output)?;
        output.write_all(b"\n")?;
    }
    let mut waiting = Vec::new();
    let mut write = |waiting: &mut Vec<Place>| -> Result<(), LoadError> {
        for line in lines.read(waiting)? {
            output.write_all(&line)?;
            output.write_all(b"\n")?;
        }
        waiting.clear();
        Ok(())
    };
    let mut bytes = 0;
    index::places(index, |place| {
        waiting.push(place);
        bytes += place.length;
        if bytes >= SPAN {
            bytes = 0;
            write(&mut waiting)?;
        }
        Ok(())
    })?;
    write(&mut waiting)
}

/// One frame of its own: frames behind one another are one file.
fn pack(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::with_capacity(bytes.len() / 4), LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(bytes.len() as u64))?;
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Makes a new name in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    if cfg!(unix) {
        File::open(directory)?.sync_all()
    } else {
        Ok(())
    }
}
