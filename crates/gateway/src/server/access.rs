//! Who may call. A served store has no users of its own: whoever may call may read and write everything.

use super::Body;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use std::net::IpAddr;
use tonic::Status;

/// Who may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Programs of this machine, and web pages that this machine serves. Only for addresses that no other machine
    /// reaches. Whatever credentials clients send are accepted.
    ThisMachine,
    /// Whoever sends `authorization: Bearer` with this token.
    Token(Token),
    /// Everybody who reaches the port, web pages of anybody too. At an address that no other machine reaches this is
    /// [`Access::ThisMachine`].
    Everybody,
}

/// A secret, kept as its hash. Comparing takes the same time wherever the difference is.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(blake3::Hash);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Shorter ones can be guessed.
const TOKEN_BYTES: usize = 16;

impl Token {
    /// Blanks around it do not count: files end in a newline.
    ///
    /// # Errors
    /// It is too short, or holds what no header can carry.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.len() < TOKEN_BYTES {
            return Err("a token has at least 16 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("a token has letters, digits and ASCII signs only");
        }
        Ok(Self(blake3::hash(text.as_bytes())))
    }

    fn is(&self, given: &[u8]) -> bool {
        self.0 == blake3::hash(given)
    }
}

impl Access {
    /// # Errors
    /// UNAUTHENTICATED: a token is needed.
    pub(super) fn admits_call(&self, headers: &HeaderMap) -> Result<(), Status> {
        let Self::Token(token) = self else {
            return Ok(());
        };
        let given = headers
            .get(header::AUTHORIZATION)
            .map(HeaderValue::as_bytes);
        let given = given.and_then(|given| {
            let (scheme, rest) = given.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(rest)
        });
        match given {
            Some(given) if token.is(given.trim_ascii()) => Ok(()),
            _ => Err(Status::unauthenticated(
                "this server wants its token: send the header `authorization: Bearer TOKEN`",
            )),
        }
    }

    /// Keeps away web pages that a person of this machine happens to look at: a page of another host may not
    /// call, neither openly nor under a name of its own that leads to this machine.
    ///
    /// # Errors
    /// PERMISSION_DENIED.
    pub(super) fn admits_page<B>(&self, request: &Request<B>) -> Result<(), Status> {
        if *self != Self::ThisMachine {
            return Ok(());
        }
        if let Some(origin) = request.headers().get(header::ORIGIN) {
            let origin = origin.to_str().ok().and_then(|o| o.parse::<Uri>().ok());
            let host = origin.as_ref().and_then(Uri::host);
            if !host.is_some_and(|host| is_this_machine(host, IpAddr::is_loopback)) {
                return Err(Status::permission_denied(
                    "web pages of other hosts may call only where `whimbrel serve` wants a token (--token-file)",
                ));
            }
        }
        let named =
            match request.uri().authority() {
                Some(authority) => Some(authority.clone()),
                None => match request.headers().get(header::HOST) {
                    Some(host) => Some(host.as_bytes().try_into().map_err(|_| {
                        Status::invalid_argument("the header `host` cannot be read")
                    })?),
                    None => None,
                },
            };
        // A page cannot make its browser send an address for a name.
        match named {
            Some(named) if !is_this_machine(named.host(), |_| true) => {
                Err(Status::permission_denied(
                    "call this server by its address or as localhost; other names need a token (--token-file)",
                ))
            }
            _ => Ok(()),
        }
    }
}

fn is_this_machine(host: &str, address: impl Fn(&IpAddr) -> bool) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(host).parse::<IpAddr>() {
        return address(&ip);
    }
    let host = host.to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Answers a browser that asks whether a page may call.
pub(super) fn preflight(asked: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, POST, PATCH, DELETE, OPTIONS");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    if let Some(wanted) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    let hour = HeaderValue::from_static("3600");
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, hour);
    let private = HeaderName::from_static("access-control-allow-private-network");
    headers.insert(private, HeaderValue::from_static("true"));
    response
}

/// Lets the page that was admitted read the answer.
pub(super) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str, origin: Option<&str>) -> Request<()> {
        let mut request = Request::get("/v1/x").header(header::HOST, host);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn pages_of_other_hosts_are_kept_away() {
        for (host, origin, admitted) in [
            ("localhost:8080", None, true),
            ("127.0.0.1:8080", Some("http://localhost:3000"), true),
            ("[::1]:8080", Some("http://[::1]:3000"), true),
            ("app.localhost:8080", Some("https://app.localhost"), true),
            // Forwarded into a container: an address, so nobody's page.
            ("172.17.0.1:8080", None, true),
            ("127.0.0.1:8080", Some("https://evil.example"), false),
            ("127.0.0.1:8080", Some("null"), false),
            ("127.0.0.1:8080", Some("file://"), false),
            ("127.0.0.1:8080", Some("http://10.0.0.7"), false),
            (
                "127.0.0.1:8080",
                Some("http://localhost.evil.example"),
                false,
            ),
            ("evil.example:8080", None, false),
            ("evil.example:8080", Some("http://evil.example:8080"), false),
            ("notlocalhost", None, false),
        ] {
            let got = Access::ThisMachine.admits_page(&request(host, origin));
            assert_eq!(got.is_ok(), admitted, "{host} {origin:?}");
            assert!(
                Access::Everybody
                    .admits_page(&request(host, origin))
                    .is_ok()
            );
        }
    }

    #[test]
    fn a_token_is_wanted_exactly() {
        let token = Token::new(" 0123456789abcdef\n").unwrap();
        let access = Access::Token(token);
        for (given, admitted) in [
            (Some("Bearer 0123456789abcdef"), true),
            (Some("bearer 0123456789abcdef"), true),
            (Some("Bearer 0123456789abcdeF"), false),
            (Some("Bearer owner"), false),
            (Some("Bearer "), false),
            (Some("Bearer"), false),
            (Some("Basic 0123456789abcdef"), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                headers.insert(header::AUTHORIZATION, given.parse().unwrap());
            }
            assert_eq!(access.admits_call(&headers).is_ok(), admitted, "{given:?}");
            assert!(Access::ThisMachine.admits_call(&headers).is_ok());
        }
        assert!(!format!("{access:?}").contains("0123"));
        for bad in ["", "short", "0123456789 abcdef", "0123456789abcdefé"] {
            assert!(Token::new(bad).is_err(), "{bad}");
        }
    }
}
