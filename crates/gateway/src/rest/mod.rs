//! The protocol as JSON over HTTP, as the annotations of its methods map it.
//!
//! A request becomes the gRPC call that it stands for and is answered by whatever answers gRPC here, also where
//! calls are forwarded; so JSON can differ from gRPC in nothing but form.

mod frames;
mod json;
mod query;
mod route;

use crate::server::{Body, Calls, GRPC};
use bytes::Bytes;
use frames::{Answered, Frames};
use futures::stream;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use json::{Enums, Shape};
use route::{Call, Content};
use serde_json::{Value as Json, json};
use tonic::{Code, Status};

/// A JSON request takes several times the room of the same in gRPC; the rule of 10 MiB is judged there.
const REQUEST_BYTES: usize = 32 << 20;

/// Answers a request that is not gRPC.
pub(crate) async fn answer<B>(calls: &dyn Calls, request: Request<B>) -> Response<Body>
where
    B: HttpBody + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match begin(request).await {
        Ok((request, shape, enums)) => {
            let Ok(response) = calls.call(request).await;
            match Frames::of(response) {
                Ok(frames) if shape.streams => stream(frames, shape, enums).await,
                Ok(frames) => match one(frames, &shape, enums).await {
                    Ok(text) => respond(StatusCode::OK, text),
                    Err(status) => refuse(&status),
                },
                Err(status) if shape.streams => refuse_stream(&status),
                Err(status) => refuse(&status),
            }
        }
        Err(status) => refuse(&status),
    }
}

/// The method that a path stands for, by the protocol's name, or nothing.
pub(crate) fn method_name(method: &Method, path: &str) -> &'static str {
    route::find(method, path).map_or("", |call| call.method)
}

/// An error as Google's services say it.
pub(crate) fn refuse(status: &Status) -> Response<Body> {
    respond(http_status(status.code()), error(status).to_string())
}

fn refuse_stream(status: &Status) -> Response<Body> {
    let text = Json::Array(vec![error(status)]).to_string();
    respond(http_status(status.code()), text)
}

fn error(status: &Status) -> Json {
    json!({ "error": {
        "code": http_status(status.code()).as_u16(),
        "message": status.message(),
        "status": name(status.code()),
    }})
}

fn respond(status: StatusCode, text: String) -> Response<Body> {
    json_response(status, Body::new(Full::new(Bytes::from(text))))
}

fn json_response(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=UTF-8"),
    );
    // What documents hold is neither for caches nor to be guessed at as a page.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// The gRPC call that a request stands for, and how its answer is to be written.
async fn begin<B>(request: Request<B>) -> Result<(Request<Body>, Shape, Enums), Status>
where
    B: HttpBody + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let call = route::find(&head.method, head.uri.path()).ok_or_else(|| {
        Status::not_found("no method of the protocol has this path and this HTTP method")
    })?;
    let shape = json::shape(call.method)?;
    if shape.both_ways {
        return Err(Status::unimplemented(format!(
            "{} is a stream both ways and exists over gRPC only",
            call.method
        )));
    }
    let mut message = content(&call, body).await?;
    let enums = query::merge(&mut message, &shape.input, &call, head.uri.query())?;
    for (field, value) in &call.bound {
        query::set(&mut message, field, Json::String(value.clone()))?;
    }
    let bytes = json::encode(&shape.input, message)?;
    let mut request = Request::new(frames::framed(&bytes));
    *request.method_mut() = Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = format!("{GRPC}{}", call.method)
        .parse()
        .map_err(|_| Status::internal("a method's path cannot be written"))?;
    *request.headers_mut() = metadata(&head.headers);
    Ok((request, shape, enums))
}

/// The request's body as a message of the method.
async fn content<B>(call: &Call, body: B) -> Result<Json, Status>
where
    B: HttpBody,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let field = match call.content {
        Content::None => return Ok(json!({})),
        Content::Message => None,
        Content::Field(name) => Some(name),
    };
    let read = Limited::new(body, REQUEST_BYTES).collect().await;
    let bytes = read
        .map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Status::invalid_argument(format!(
                "Request payload size exceeds the limit: {REQUEST_BYTES} bytes."
            )),
            None => Status::cancelled("the request's body did not arrive whole"),
        })?
        .to_bytes();
    let message = match bytes.trim_ascii() {
        [] => json!({}),
        bytes => serde_json::from_slice(bytes).map_err(|error| {
            Status::invalid_argument(format!("Invalid JSON payload received. {error}"))
        })?,
    };
    if !message.is_object() {
        return Err(Status::invalid_argument(
            "Invalid JSON payload received. An object is expected.",
        ));
    }
    Ok(match field {
        None => message,
        Some(field) => json!({ field: message }),
    })
}

/// What goes along with the call: credentials, routing, and how long the client waits.
fn metadata(from: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in from {
        let text = name.as_str();
        if *name == header::AUTHORIZATION
            || *name == header::USER_AGENT
            || text.starts_with("x-goog-")
            || text == "google-cloud-resource-prefix"
        {
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let seconds = from.get("x-server-timeout").and_then(|s| s.to_str().ok());
    if let Some(seconds) = seconds.and_then(|s| s.parse::<f64>().ok())
        && (0.001..=99_999.0).contains(&seconds)
    {
        // In range, so neither lossy in a way that matters nor out of what the header takes.
        let timeout = format!("{}m", (seconds * 1000.0).round());
        if let Ok(timeout) = HeaderValue::from_str(&timeout) {
            headers.insert(HeaderName::from_static("grpc-timeout"), timeout);
        }
    }
    headers
}

async fn one(mut frames: Frames, shape: &Shape, enums: Enums) -> Result<String, Status> {
    let message = match frames.next().await? {
        Answered::Message(message) => message,
        Answered::End => return Err(Status::internal("the method ended without an answer")),
    };
    // The status stands behind the message.
    while let Answered::Message(_) = frames.next().await? {}
    json::decode(&shape.output, &message, enums)
}

/// A JSON array, written as the messages come. Where the method fails before its first message, the HTTP status says
/// so; later, the last element is the error.
async fn stream(mut frames: Frames, shape: Shape, enums: Enums) -> Response<Body> {
    let first = match frames.next().await {
        Ok(Answered::Message(message)) => json::decode(&shape.output, &message, enums),
        Ok(Answered::End) => return respond(StatusCode::OK, "[]".to_owned()),
        Err(status) => Err(status),
    };
    let first = match first {
        Ok(text) => text,
        Err(status) => return refuse_stream(&status),
    };
    let begin = (format!("[{first}"), Some(frames));
    let parts = stream::unfold(Some(begin), move |state| {
        let shape = shape.clone();
        async move {
            let (text, frames) = state?;
            let Some(mut frames) = frames else {
                return Some((frame(text), None));
            };
            let next = match frames.next().await {
                Ok(Answered::Message(message)) => {
                    json::decode(&shape.output, &message, enums).map(Some)
                }
                Ok(Answered::End) => Ok(None),
                Err(status) => Err(status),
            };
            // What is ready is sent while the next message is made.
            let next = match next {
                Ok(Some(next)) => (format!(",\n{next}"), Some(frames)),
                Ok(None) => ("]".to_owned(), None),
                Err(status) => (format!(",\n{}]", error(&status)), None),
            };
            Some((frame(text), Some(next)))
        }
    });
    json_response(StatusCode::OK, Body::new(StreamBody::new(parts)))
}

fn frame(text: String) -> Result<Frame<Bytes>, Status> {
    Ok(Frame::data(Bytes::from(text)))
}

fn http_status(code: Code) -> StatusCode {
    let number = match code {
        Code::Ok => 200,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Cancelled => 499,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
    };
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
