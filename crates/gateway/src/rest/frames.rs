//! gRPC's frames: a message is a byte that says whether it is compressed, four bytes of length, and the message.

use crate::server::Body;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::Response;
use http_body_util::{BodyExt, Full};
use tonic::{Code, Status};

const HEAD: usize = 5;

/// A body of one message.
pub(super) fn framed(message: &[u8]) -> Body {
    let mut out = BytesMut::with_capacity(HEAD + message.len());
    out.put_u8(0);
    // Requests are bounded far below.
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put_slice(message);
    Body::new(Full::new(out.freeze()))
}

pub(super) enum Answered {
    Message(Bytes),
    End,
}

/// The messages of a response.
pub(super) struct Frames {
    body: Body,
    buffer: BytesMut,
    /// Set when the body is over.
    end: Option<Result<(), Status>>,
}

impl Frames {
    /// # Errors
    /// What the response's head already says.
    pub(super) fn of(response: Response<Body>) -> Result<Self, Status> {
        let (head, body) = response.into_parts();
        let end = match Status::from_header_map(&head.headers) {
            Some(status) if status.code() != Code::Ok => return Err(status),
            Some(_) => Some(Ok(())),
            None if head.status.is_success() => None,
            None => {
                let text = format!("answered with HTTP status {}", head.status.as_u16());
                return Err(Status::internal(text));
            }
        };
        Ok(Self {
            body,
            buffer: BytesMut::new(),
            end,
        })
    }

    /// # Errors
    /// What the method ended with, after which nothing comes.
    pub(super) async fn next(&mut self) -> Result<Answered, Status> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Answered::Message(message));
            }
            if let Some(end) = &self.end {
                end.clone()?;
                return match self.buffer.is_empty() {
                    true => Ok(Answered::End),
                    false => Err(Status::internal("the answer broke off within a message")),
                };
            }
            match self.body.frame().await {
                Some(frame) => match frame?.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        let status = frame
                            .trailers_ref()
                            .and_then(Status::from_header_map)
                            .filter(|status| status.code() != Code::Ok);
                        self.end = Some(status.map_or(Ok(()), Err));
                    }
                },
                None => {
                    self.end = Some(Err(Status::internal("the answer ended without a status")));
                }
            }
        }
    }

    fn whole(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((head, rest)) = self.buffer.split_at_checked(HEAD) else {
            return Ok(None);
        };
        if head[0] != 0 {
            return Err(Status::internal("the answer is compressed"));
        }
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}
