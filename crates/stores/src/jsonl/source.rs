//! Reading a file from its beginning: which lines it has, and where they stand.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A file as plain lines: itself, or what a compressed one unpacks to.
pub(super) struct Opened {
    /// What documents are read from.
    pub(super) lines: File,
    /// Where the whole frames of a compressed file end; `None` for a plain one.
    pub(super) frames_end: Option<u64>,
    /// A frame at the end was cut off.
    pub(super) torn: bool,
}

/// Opens a file. A compressed one is unpacked into a temporary file, because a document in the middle of
/// it could not be read by itself.
pub(super) fn open(path: &Path, compressed: bool) -> io::Result<Opened> {
    let file = File::open(path)?;
    if !compressed {
        return Ok(Opened {
            lines: file,
            frames_end: None,
            torn: false,
        });
    }
    let mut input = Counted {
        input: BufReader::new(file),
        taken: 0,
    };
    let mut lines = tempfile::tempfile()?;
    let (mut whole, mut unpacked, mut torn) = (0, 0, false);
    while !input.fill_buf()?.is_empty() {
        let frame = zstd::Decoder::with_buffer(&mut input)
            .and_then(|decoder| io::copy(&mut decoder.single_frame(), &mut lines));
        match frame {
            Ok(bytes) => {
                unpacked += bytes;
                whole = input.taken;
            }
            // Only a file that holds something whole can have lost its end in a crash of ours.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && whole > 0 => {
                torn = true;
                break;
            }
            Err(error) => {
                let why = format!("the compressed frame at byte {whole} is damaged: {error}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
    }
    lines.set_len(unpacked)?;
    lines.flush()?;
    lines.seek(SeekFrom::Start(0))?;
    Ok(Opened {
        lines,
        frames_end: Some(whole),
        torn,
    })
}

struct Counted<R> {
    input: R,
    taken: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(out)?;
        self.taken += n as u64;
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.taken += n as u64;
        self.input.consume(n);
    }
}

/// A line without its end. Blank lines are left out.
pub(super) struct RawLine<'l> {
    pub(super) number: u64,
    pub(super) at: u64,
    /// Empty where the line is longer than `limit`.
    pub(super) bytes: &'l [u8],
    /// Of the line in the file, without its end.
    pub(super) length: u64,
    /// Where the line ends, with its line break.
    pub(super) end: u64,
    /// Ends with a line break.
    pub(super) whole: bool,
}

/// Calls `each` with every line, in constant memory. Returns the number of bytes read.
pub(super) fn each_line<E: From<io::Error>>(
    file: &File,
    limit: usize,
    mut each: impl FnMut(RawLine<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    let mut input = BufReader::with_capacity(1 << 18, file);
    let (mut number, mut at) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = read_line(&mut input, limit + 2, &mut line)?;
        if read == 0 {
            return Ok(at);
        }
        number += 1;
        let whole = line.last() == Some(&b'\n');
        let too_long = read > line.len() as u64;
        let mut bytes = line.as_slice();
        let mut start = at;
        if at == 0
            && let Some(rest) = bytes.strip_prefix(b"\xef\xbb\xbf")
        {
            bytes = rest;
            start = 3;
        }
        bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let length = if too_long { read } else { bytes.len() as u64 };
        at += read;
        if too_long {
            bytes = &[];
        } else if bytes.trim_ascii().is_empty() {
            continue;
        }
        each(RawLine {
            number,
            at: start,
            bytes,
            length,
            end: at,
            whole: whole || too_long,
        })?;
    }
}

/// Reads through the next line break; keeps no more than `limit` bytes of the line.
fn read_line(input: &mut impl BufRead, limit: usize, line: &mut Vec<u8>) -> io::Result<u64> {
    let mut read = 0;
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(read);
        }
        let end = memchr::memchr(b'\n', buffer).map(|i| i + 1);
        let taken = end.unwrap_or(buffer.len());
        let room = limit.saturating_sub(line.len());
        line.extend_from_slice(&buffer[..taken.min(room)]);
        input.consume(taken);
        read += taken as u64;
        if end.is_some() {
            return Ok(read);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(content: &[u8], limit: usize) -> Vec<(u64, u64, String, u64, bool)> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut found = Vec::new();
        let read = each_line::<io::Error>(&file, limit, |l| {
            let text = String::from_utf8(l.bytes.to_vec()).unwrap();
            found.push((l.number, l.at, text, l.length, l.whole));
            Ok(())
        });
        assert_eq!(read.unwrap(), content.len() as u64);
        found
    }

    #[test]
    fn lines_are_found() {
        let line =
            |number, at, text: &str, whole| (number, at, text.to_owned(), text.len() as u64, whole);
        assert_eq!(lines(b"", 9), []);
        assert_eq!(
            lines(b"ab\ncd", 9),
            [line(1, 0, "ab", true), line(2, 3, "cd", false)]
        );
        assert_eq!(
            lines(b"ab\r\n \r\n\ncd\n", 9),
            [line(1, 0, "ab", true), line(4, 8, "cd", true)]
        );
        assert_eq!(
            lines(b"\xef\xbb\xbfab\nc\n", 9),
            [line(1, 3, "ab", true), line(2, 6, "c", true)]
        );
        assert_eq!(
            lines(b"0123456789\nab\n", 4),
            [(1, 0, String::new(), 11, true), line(2, 11, "ab", true)]
        );
    }
}
