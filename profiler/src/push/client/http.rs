//! Requests by HTTP.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use ureq::Agent;
use ureq::http::{HeaderMap, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::{
    ANSWER, Answer, LONGEST_WAIT, Request, TO_ANSWER, TO_CONNECT, USER_AGENT, no_answer, words,
};

/// The way to one server, that of the last request if it is still open.
pub struct Connection {
    agent: Agent,
    base: String,
    headers: Vec<(&'static str, String)>,
}

impl Connection {
    pub(super) fn new(
        base: &str,
        headers: Vec<(&'static str, String)>,
        roots: &[CertificateDer<'static>],
    ) -> Self {
        let roots: Vec<Certificate<'static>> = roots
            .iter()
            .map(|der| Certificate::from_der(der).to_owned())
            .collect();
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
            .user_agent(USER_AGENT)
            .build();
        Self {
            agent: config.into(),
            base: base.into(),
            headers,
        }
    }

    pub(super) fn send(&self, request: &Request) -> Answer {
        let mut post = self
            .agent
            .post(format!("{}{}", self.base, request.path))
            .header("content-type", request.content_type);
        let own = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        for (name, value) in own.chain(request.headers.iter().copied()) {
            post = post.header(name, value);
        }
        match post.send(&request.body[..]) {
            Ok(mut response) => {
                let (status, headers) = (response.status(), response.headers().clone());
                let body = response
                    .body_mut()
                    .with_config()
                    .limit(ANSWER as u64)
                    .read_to_vec();
                if status.is_success() && !is_of(&headers, request.content_type) {
                    return Answer::Denied("it answers as another kind of server does".into());
                }
                match body {
                    Ok(body) => sorted(status, request.strict, &headers, body),
                    Err(_) if !status.is_success() => {
                        sorted(status, request.strict, &headers, Vec::new())
                    }
                    Err(error) => failed(&error),
                }
            }
            Err(error) => failed(&error),
        }
    }
}

/// Whether an answer is of the type of what was asked: a page for a browser has a success, too.
fn is_of(headers: &HeaderMap, content_type: &str) -> bool {
    let found = headers
        .get("content-type")
        .and_then(|value| value.to_str().ok());
    let essence = found.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(content_type))
}

/// What a status asks for.
fn sorted(status: StatusCode, strict: bool, headers: &HeaderMap, body: Vec<u8>) -> Answer {
    if status.is_success() {
        return Answer::Taken(body);
    }
    let reason = reason(&body);
    let said = match reason.is_empty() {
        true => format!("it answers {status}"),
        false => format!("it answers {status}: {reason}"),
    };
    match status.as_u16() {
        408 | 409 | 425 | 499 | 500 | 505..=599 if strict => Answer::Refused(said),
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
    match message {
        Some(message) => words(message),
        None => words(&String::from_utf8_lossy(body)),
    }
}

/// What went wrong below HTTP.
fn failed(error: &ureq::Error) -> Answer {
    let why = match error {
        ureq::Error::Timeout(_) => return no_answer(),
        ureq::Error::HostNotFound => "there is no such host".into(),
        ureq::Error::Io(error) => crate::cli::failure::reason(error),
        ureq::Error::Rustls(error) => format!("TLS: {error}"),
        error => error.to_string(),
    };
    Answer::Away(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_asks_for() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        let all = |status, strict| {
            let status = StatusCode::from_u16(status).unwrap();
            sorted(status, strict, &headers, b"why\n".to_vec())
        };
        let sorted = |status| all(status, false);
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
        assert!(matches!(all(500, true), Answer::Refused(_)));
        assert!(matches!(all(503, true), Answer::Later(..)));
    }

    #[test]
    fn reasons() {
        assert_eq!(
            reason(br#"{"code":"invalid_argument","message":"too old"}"#),
            "too old"
        );
        assert_eq!(reason(b"not here\nmore"), "not here");
    }

    #[test]
    fn a_wait_is_bounded() {
        assert_eq!(wanted_wait("3"), Some(Duration::from_secs(3)));
        assert_eq!(wanted_wait("99999999999"), Some(LONGEST_WAIT));
        assert_eq!(wanted_wait("Sun, 06 Nov 1994 08:49:37 GMT"), None);
        assert_eq!(wanted_wait("soon"), None);
    }
}
