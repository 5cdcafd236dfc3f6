//! One request, one answer. A body goes to a server, and what comes back is sorted into what is to be done:
//! it is theirs now, it never will be, somebody has to mend something, or try again.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::credentials::Credentials;
use super::destination::Transport;
use crate::cli::Failure;
use crate::cli::retype::quoted;

mod grpc;
mod http;

/// To a connection; also for looking up the name.
const TO_CONNECT: Duration = Duration::from_secs(10);
/// To the end of the answer, from the beginning.
const TO_ANSWER: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read.
const ANSWER: usize = 64 << 10;
/// Characters of a server's reason that are kept, and those that are shown.
const REASON: usize = 16 << 10;
const SHOWN: usize = 300;
/// The longest that a server may ask us to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
const USER_AGENT: &str = concat!("rprof/", env!("CARGO_PKG_VERSION"));

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Below the server's base; of gRPC, service and method.
    pub path: &'static str,
    /// Of the body; what gRPC sends has always the same.
    pub content_type: &'static str,
    /// More headers that the protocol has.
    pub headers: &'static [(&'static str, &'static str)],
    /// Only 429, 502, 503 and 504 may be asked again (docs/specification.md of opentelemetry-proto, 1.11).
    pub strict: bool,
    /// The body.
    pub body: Vec<u8>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The server has it. What it said.
    Taken(Vec<u8>),
    /// It will never take this one: why.
    Refused(String),
    /// It has a part of it, and will never take the rest: why.
    Partly(String),
    /// It takes nothing from us as we are (credentials, another server): why.
    Denied(String),
    /// Not now: why, and how long it asked us to wait.
    Later(String, Option<Duration>),
    /// There is no answer: why.
    Away(String),
}

/// How servers are spoken to.
#[derive(Clone, Debug)]
pub struct Client {
    credentials: Credentials,
    roots: Vec<CertificateDer<'static>>,
}

impl Client {
    /// `authority`: a file of certificates to trust instead of the machine's.
    ///
    /// # Errors
    /// The file cannot be read, or holds none.
    pub fn new(credentials: Credentials, authority: Option<&Path>) -> Result<Self, Failure> {
        let roots = match authority {
            Some(path) => {
                let text = std::fs::read(path).map_err(|error| {
                    let look = format!("ls -l {}", quoted(&path.to_string_lossy()));
                    Failure::file("read", path, &error).next(look)
                })?;
                CertificateDer::pem_slice_iter(&text)
                    .filter_map(Result::ok)
                    .collect()
            }
            // None at all is an error of the first TLS connection, and only of that.
            None => rustls_native_certs::load_native_certs().certs,
        };
        if let Some(path) = authority.filter(|_| roots.is_empty()) {
            let what = format!("{} holds no certificate", path.display());
            return Err(Failure::new(what).next(format!(
                "openssl x509 -in {} -noout -subject",
                path.display()
            )));
        }
        Ok(Self { credentials, roots })
    }

    /// Whose profiles those for this base are.
    pub fn account(&self, base: &str) -> String {
        self.credentials.account(base)
    }

    /// A connection to the server at this base: made when it is needed, and kept. Credentials are read again
    /// for each, from a file that may have been replaced.
    pub fn connect(&self, base: &str, transport: Transport) -> Connection {
        let headers = self.credentials.headers(base);
        match transport {
            Transport::Http => Connection::Http(http::Connection::new(base, headers, &self.roots)),
            Transport::Grpc => Connection::Grpc(grpc::Connection::new(base, headers, &self.roots)),
        }
    }
}

/// The way to one server.
pub enum Connection {
    /// One request is one of HTTP.
    Http(http::Connection),
    /// One request is a unary call.
    Grpc(grpc::Connection),
}

impl Connection {
    /// Sends one request.
    pub fn send(&self, request: &Request) -> Answer {
        match self {
            Self::Http(connection) => connection.send(request),
            Self::Grpc(connection) => connection.send(request),
        }
    }
}

/// As much of a reason as people read.
pub fn short(why: &str) -> &str {
    &why[..why.floor_char_boundary(SHOWN)]
}

/// A server's own words, as far as they are for people: one line of text.
pub fn words(text: &str) -> String {
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    // A page for a browser says nothing to us, nor does a message of protobuf.
    if line.starts_with('<') || line.chars().any(char::is_control) || line.contains('\u{fffd}') {
        return String::new();
    }
    line.chars().take(REASON).collect()
}

/// Nothing came back.
fn no_answer() -> Answer {
    let why = format!("it does not answer within {} s", TO_ANSWER.as_secs());
    Answer::Away(why)
}

#[cfg(test)]
mod tests {
    use super::{short, words};

    #[test]
    fn words_for_people() {
        assert_eq!(words("  \nnot here\nmore"), "not here");
        assert_eq!(words("<html>"), "");
        assert_eq!(words("\x08\x03\x12\x05hello"), "");
        assert_eq!(short(&words(&"long ".repeat(100))).len(), 300);
    }
}
