//! What a push URL says: which protocol, and where.

use std::fmt;

use ureq::http::Uri;

use crate::cli::Failure;

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Grafana Pyroscope.
    Pyroscope,
    /// Parca.
    Parca,
    /// OpenTelemetry over HTTP.
    OtlpHttp,
    /// OpenTelemetry over gRPC.
    OtlpGrpc,
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A request is one of HTTP.
    Http,
    /// A request is a unary call.
    Grpc,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pyroscope, Self::Parca, Self::OtlpHttp, Self::OtlpGrpc];

    /// What stands before `://`, without `s` for TLS.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Pyroscope => "pyroscope+http",
            Self::Parca => "parca+http",
            Self::OtlpHttp => "otlp+http",
            Self::OtlpGrpc => "otlp+grpc",
        }
    }

    /// How its servers are spoken to.
    pub fn transport(self) -> Transport {
        match self {
            Self::Pyroscope | Self::Parca | Self::OtlpHttp => Transport::Http,
            Self::OtlpGrpc => Transport::Grpc,
        }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pyroscope => "Pyroscope",
            Self::Parca => "Parca",
            Self::OtlpHttp => "OTLP over HTTP",
            Self::OtlpGrpc => "OTLP over gRPC",
        }
    }
}

/// Where profiles are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// `None`: the server is to be asked.
    pub protocol: Option<Protocol>,
    /// `http://host:port/path`, without a slash at its end.
    pub base: String,
}

impl Destination {
    /// How it is spoken to.
    pub fn transport(&self) -> Transport {
        self.protocol.map_or(Transport::Http, Protocol::transport)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Some(protocol) => write!(f, "{} at {}", protocol.name(), self.base),
            None => f.write_str(&self.base),
        }
    }
}

/// Reads a push URL.
///
/// # Errors
/// What is wrong with it, and what would be taken.
pub fn parse(url: &str) -> Result<Destination, Failure> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(
            Failure::usage(format!("'{}' is no URL of a server", hidden(url)))
                .next(example("pyroscope+http")),
        );
    };
    let plain = scheme.strip_suffix('s').unwrap_or(scheme);
    let protocol = Protocol::ALL
        .into_iter()
        .find(|protocol| protocol.scheme() == plain);
    if protocol.is_none() && plain != "http" {
        let known: Vec<&str> = Protocol::ALL
            .iter()
            .map(|protocol| protocol.scheme())
            .collect();
        let what = format!(
            "nothing is known of '{scheme}://', only of {}, each also with an s for TLS, and of http:// and https://, \
             where the server is asked what it is",
            known.join(", ")
        );
        return Err(Failure::usage(what).next(example("pyroscope+http")));
    }
    let transport = if plain == scheme { "http" } else { "https" };
    let base = format!("{transport}://{}", rest.trim_end_matches('/'));
    let parsed: Option<Uri> = base.parse().ok();
    let authority = parsed.as_ref().and_then(Uri::authority);
    let Some((uri, authority)) = parsed
        .as_ref()
        .zip(authority)
        .filter(|(_, a)| !a.host().is_empty())
    else {
        return Err(
            Failure::usage(format!("'{}' is no URL of a server", hidden(url)))
                .next(example(scheme)),
        );
    };
    // After an address in brackets, too.
    let after = authority.as_str().rsplit(']').next().unwrap_or_default();
    if let Some((_, port)) = after.split_once(':')
        && !authority.as_str().contains('@')
        && port.parse::<u16>().map_or(true, |port| port == 0)
    {
        let what = format!("'{port}' is no port: they are 1 to 65535");
        return Err(Failure::usage(what).next(example(scheme)));
    }
    if authority.as_str().contains('@') {
        let what = format!(
            "a password in a URL is for everyone to read who types ps; {} takes user:password or a token",
            super::credentials::VARIABLE
        );
        return Err(Failure::usage(what).next(format!(
            "{}=\"$(cat FILE)\" rprof push … --to {}",
            super::credentials::VARIABLE,
            hidden(url)
        )));
    }
    if uri.query().is_some() || base.contains('#') {
        let what = format!("a push URL ends with its path: '{}'", hidden(url));
        let path = url.split(['?', '#']).next().unwrap_or(url);
        return Err(Failure::usage(what).next(format!("rprof push rprof.pb.gz --to {path}")));
    }
    if protocol == Some(Protocol::OtlpGrpc) && uri.path() != "/" {
        let what = format!("gRPC knows no paths: '{}'", hidden(url));
        return Err(Failure::usage(what).next(format!(
            "rprof push rprof.pb.gz --to {scheme}://{authority}"
        )));
    }
    Ok(Destination { protocol, base })
}

/// A URL without what may be a password.
fn hidden(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.into(),
        _ => url.into(),
    }
}

/// With the port that a server has usually.
fn example(scheme: &str) -> String {
    let port = match scheme.split('+').next() {
        Some("parca") => 7070,
        Some("otlp") if scheme.contains("grpc") => 4317,
        Some("otlp") => 4318,
        _ => 4040,
    };
    format!("rprof push rprof.pb.gz --to {scheme}://127.0.0.1:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        for (url, protocol, base) in [
            (
                "pyroscope+http://a:4040",
                Some(Protocol::Pyroscope),
                "http://a:4040",
            ),
            (
                "pyroscope+https://a/path/",
                Some(Protocol::Pyroscope),
                "https://a/path",
            ),
            (
                "parca+http://[::1]:7070",
                Some(Protocol::Parca),
                "http://[::1]:7070",
            ),
            ("otlp+https://a", Some(Protocol::OtlpHttp), "https://a"),
            (
                "otlp+grpc://a:4317",
                Some(Protocol::OtlpGrpc),
                "http://a:4317",
            ),
            ("otlp+grpcs://a", Some(Protocol::OtlpGrpc), "https://a"),
            ("http://a:1", None, "http://a:1"),
            ("https://a", None, "https://a"),
        ] {
            assert_eq!(
                parse(url).unwrap(),
                Destination {
                    protocol,
                    base: base.into()
                },
                "{url}"
            );
        }
    }

    #[test]
    fn what_is_none() {
        for url in [
            "",
            "a",
            "ftp://a",
            "pyroscope://a",
            "http://",
            "http://:80",
            "http://a b",
            "http://a:99999",
            "http://a:b",
            "http://[::1]:0",
            "http://a?x=1",
            "otlp+grpc://a/b",
        ] {
            assert_eq!(parse(url).unwrap_err().exit_code(), 2, "{url}");
        }
    }

    #[test]
    fn a_password_is_refused_and_not_shown() {
        for url in ["http://me:secret@a", "ftp://me:secret@a", "me:secret@a"] {
            let said = parse(url).unwrap_err().to_string();
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
