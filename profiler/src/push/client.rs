//! One request, one answer. A body goes to a server, and what comes back is sorted into what is to be done:
//! it is theirs now, it never will be, somebody has to mend something, or try again.

use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ureq::Agent;
use ureq::http::{HeaderMap, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::credentials::Credentials;
use crate::cli::Failure;

/// To a connection; also for looking up the name.
const TO_CONNECT: Duration = Duration::from_secs(10);
/// To the end of the answer, from the beginning.
const TO_ANSWER: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read.
const ANSWER: u64 = 64 << 10;
/// Characters of a server's reason that are shown.
const REASON: usize = 300;
/// The longest that a server may ask us to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Below the server's base.
    pub path: &'static str,
    /// Of the body.
    pub content_type: &'static str,
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
    /// It takes nothing from us as we are (credentials, another server): why.
    Denied(String),
    /// Not now: why, and how long it asked us to wait.
    Later(String, Option<Duration>),
}

/// How servers are spoken to.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    credentials: Credentials,
}

impl Client {
    /// `authority`: a file of certificates to trust instead of the machine's.
    ///
    /// # Errors
    /// The file cannot be read, or holds none.
    pub fn new(credentials: Credentials, authority: Option<&Path>) -> Result<Self, Failure> {
        let roots = match authority {
            Some(path) => {
                let file = std::fs::File::open(path)
                    .map_err(|error| Failure::file("read", path, &error))?;
                let mut text = Vec::new();
                std::io::Read::read_to_end(&mut BufReader::new(file), &mut text)
                    .map_err(|error| Failure::file("read", path, &error))?;
                certificates(&text)
            }
            None => {
                // None at all is an error of the first TLS connection, and only of that.
                let found = rustls_native_certs::load_native_certs();
                found
                    .certs
                    .iter()
                    .map(|der| Certificate::from_der(der.as_ref()).to_owned())
                    .collect()
            }
        };
        if let Some(path) = authority.filter(|_| roots.is_empty()) {
            let what = format!("{} holds no certificate", path.display());
            return Err(Failure::new(what).next(format!(
                "openssl x509 -in {} -noout -subject",
                path.display()
            )));
        }
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            // Credentials go to who they are for, and nowhere else.
            .max_redirects(0)
            .timeout_connect(Some(TO_CONNECT))
            .timeout_resolve(Some(TO_CONNECT))
            .timeout_global(Some(TO_ANSWER))
            .user_agent(concat!("rprof/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            agent: config.into(),
            credentials,
        })
    }

    /// Sends one request.
    pub fn send(&self, base: &str, request: &Request) -> Answer {
        let mut post = self
            .agent
            .post(format!("{base}{}", request.path))
            .header("content-type", request.content_type);
        for (name, value) in self.credentials.headers() {
            post = post.header(name, value);
        }
        match post.send(&request.body[..]) {
            Ok(mut response) => {
                let (status, headers) = (response.status(), response.headers().clone());
                let body = response
                    .body_mut()
                    .with_config()
                    .limit(ANSWER)
                    .read_to_vec();
                match body {
                    Ok(body) => sorted(status, &headers, body),
                    Err(_) if !status.is_success() => sorted(status, &headers, Vec::new()),
                    Err(error) => Answer::Later(words(&error), None),
                }
            }
            Err(error) => Answer::Later(words(&error), None),
        }
    }
}

fn certificates(text: &[u8]) -> Vec<Certificate<'static>> {
    let items = parse_pem(text).filter_map(Result::ok);
    let certificates = items.filter_map(|item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    certificates.collect()
}

/// What a status asks for.
fn sorted(status: StatusCode, headers: &HeaderMap, body: Vec<u8>) -> Answer {
    if status.is_success() {
        return Answer::Taken(body);
    }
    let reason = reason(&body);
    let said = match reason.is_empty() {
        true => format!("it answers {status}"),
        false => format!("it answers {status}: {reason}"),
    };
    match status.as_u16() {
        // 409 and 499: Connect's words for a request that was given up there.
        408 | 409 | 425 | 429 | 499 | 500 | 502..=599 => {
            let wait = headers
                .get("retry-after")
                .and_then(|value| value.to_str().ok());
            Answer::Later(said, wait.and_then(wanted_wait))
        }
        // Who we are, what is asked there, and where it went: nothing that this profile could mend.
        300..=399 | 401 | 402 | 403 | 404 | 405 | 407 | 415 | 501 => Answer::Denied(said),
        _ => Answer::Refused(said),
    }
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn wanted_wait(text: &str) -> Option<Duration> {
    let wait = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = httpdate::parse_http_date(text.trim()).ok()?;
            at.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    // Seconds are cut there: at once is not meant.
    Some(wait.min(LONGEST_WAIT)).filter(|wait| !wait.is_zero())
}

/// A server's own words: the message of its JSON, or its first line of text.
fn reason(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = json
        .as_ref()
        .and_then(|json| json.get("message").or(json.get("error"))?.as_str());
    let text = match message {
        Some(message) => message.to_string(),
        None => String::from_utf8_lossy(body).into_owned(),
    };
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

/// What went wrong below HTTP.
fn words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("it does not answer within {} s", TO_ANSWER.as_secs()),
        ureq::Error::HostNotFound => "there is no such host".into(),
        ureq::Error::Io(error) => crate::cli::failure::reason(error),
        ureq::Error::Rustls(error) => format!("TLS: {error}"),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_asks_for() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        let sorted = |status| {
            sorted(
                StatusCode::from_u16(status).unwrap(),
                &headers,
                b"why\n".to_vec(),
            )
        };
        assert!(matches!(sorted(200), Answer::Taken(_)));
        for status in [400, 413, 422] {
            assert!(matches!(sorted(status), Answer::Refused(_)), "{status}");
        }
        for status in [301, 401, 403, 404] {
            assert!(matches!(sorted(status), Answer::Denied(_)), "{status}");
        }
        for status in [408, 429, 500, 503] {
            let Answer::Later(why, wait) = sorted(status) else {
                panic!("{status}");
            };
            assert!(why.ends_with(": why"), "{why}");
            assert_eq!(wait, Some(Duration::from_secs(7)));
        }
    }

    #[test]
    fn reasons() {
        assert_eq!(
            reason(br#"{"code":"invalid_argument","message":"too old"}"#),
            "too old"
        );
        assert_eq!(reason(b"  \nnot here\nmore"), "not here");
        assert_eq!(reason(b"<html>"), "");
        assert_eq!(reason(b"\x08\x03\x12\x05hello"), "");
    }

    #[test]
    fn a_wait_is_bounded() {
        assert_eq!(wanted_wait("3"), Some(Duration::from_secs(3)));
        assert_eq!(wanted_wait("99999999999"), Some(LONGEST_WAIT));
        assert_eq!(wanted_wait("Sun, 06 Nov 1994 08:49:37 GMT"), None);
        assert_eq!(wanted_wait("soon"), None);
    }
}
