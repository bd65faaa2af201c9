//! Buffers for decompressed chunks, used again and again. A chunk is decompressed by one thread and let go
//! by another; an allocator that keeps memory for each thread would come to hold many of them.

use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};

/// As many as workers may have at once.
const KEPT: usize = 8;
/// A chunk with one large document is let go for good.
const LARGEST: usize = 16 << 20;
/// Chunks are of nearly the same size: with rounding, a buffer fits the next one, too.
const ROUND: usize = 1 << 20;

#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// An empty buffer for at least `size` bytes.
    pub(crate) fn take(&self, size: usize) -> Vec<u8> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match kept {
            Some(buffer) if buffer.capacity() >= size => buffer,
            _ => Vec::with_capacity(size.next_multiple_of(ROUND)),
        }
    }

    /// The buffer's bytes; it comes back here when the last of them is let go.
    pub(crate) fn share(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Shared {
            buffer,
            home: self.clone(),
        })
    }
}

struct Shared {
    buffer: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut kept = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT && buffer.capacity() <= LARGEST {
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_its_last_reader() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take(10);
        buffer.extend_from_slice(b"0123456789");
        let at = buffer.as_ptr();
        let bytes = buffers.share(buffer);
        let part = bytes.slice(2..4);
        drop(bytes);
        let other = buffers.take(10);
        assert_ne!(other.as_ptr(), at);
        assert_eq!(&part[..], b"23");
        drop(part);
        let again = buffers.take(10);
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
    }
}
