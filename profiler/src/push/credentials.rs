//! What a server may ask for: a tenant, a password, a token. They come from the environment or a file,
//! because a command line is for everyone to read; nothing here shows them, and each goes to its own server.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use ureq::http::Uri;

use crate::cli::Failure;
use crate::cli::retype::quoted;

/// The environment's `Authorization`: `user:password`, or a token.
pub const VARIABLE: &str = "RPROF_PUSH_AUTH";

/// Who we are to servers.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Of their bases.
    servers: Vec<String>,
    /// What the environment said at the beginning.
    secrets: Secrets,
    /// Read for each connection: tokens are replaced while rprof runs.
    file: Option<PathBuf>,
    /// The value of the header `X-Scope-OrgID`.
    tenant: Option<String>,
}

/// By the base of the server.
type Secrets = BTreeMap<String, String>;

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("servers", &self.servers)
            .field("file", &self.file)
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// From a file, else from the environment, for the servers at these bases.
    ///
    /// # Errors
    /// A file that cannot be read, a secret of which it is not clear whose it is, or what cannot stand in a
    /// header.
    pub fn find(
        file: Option<&Path>,
        tenant: Option<String>,
        servers: &[&str],
    ) -> Result<Self, Failure> {
        if tenant.as_deref().is_some_and(|text| !fits(text)) {
            return Err(Failure::usage("--tenant can be ASCII only"));
        }
        let (text, origin) = match file {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    let look = format!("ls -l {}", quoted(&path.to_string_lossy()));
                    Failure::file("read", path, &error).next(look)
                })?;
                (Some(text), path.display().to_string())
            }
            None => {
                let text = std::env::var_os(VARIABLE).filter(|text| !text.is_empty());
                let text = text.map(|text| text.to_string_lossy().into_owned());
                (text, VARIABLE.into())
            }
        };
        let servers: Vec<String> = servers.iter().map(|base| base.to_string()).collect();
        let secrets = secrets(text.as_deref().unwrap_or_default(), &servers);
        let none = "holds no secret for any of these servers: HOST:PORT SECRET is how a line begins that names one";
        let secrets = match secrets {
            Ok(secrets) if secrets.is_empty() && text.is_some() && !servers.is_empty() => {
                Err(none.into())
            }
            secrets => secrets,
        };
        let secrets = secrets
            .map_err(|why| Failure::new(format!("{origin} {why}")).next("rprof push --help"))?;
        Ok(Self {
            servers,
            secrets,
            file: file.map(Into::into),
            tenant,
        })
    }

    /// Whose profiles those for this base are: tenant and user, as far as there are any; no secret.
    pub fn account(&self, base: &str) -> String {
        let secret = self.secrets.get(base).map_or("", String::as_str);
        let named = ["Basic ", "Bearer "]
            .iter()
            .any(|scheme| secret.starts_with(scheme));
        let user = secret
            .split_once(':')
            .filter(|_| !named)
            .map(|(user, _)| user);
        let parts = [self.tenant.as_deref(), user].into_iter().flatten();
        parts.collect::<Vec<_>>().join(" ")
    }

    /// Headers for the server at this base.
    pub fn headers(&self, base: &str) -> Vec<(&'static str, String)> {
        let text = self.file.as_ref().map(std::fs::read_to_string);
        let now = match text {
            Some(Ok(text)) => secrets(&text, &self.servers).ok(),
            _ => None,
        };
        let secret = now.as_ref().unwrap_or(&self.secrets).get(base);
        let authorization = secret.map(|secret| ("authorization", authorization(secret)));
        let tenant = self.tenant.clone().map(|value| ("x-scope-orgid", value));
        authorization.into_iter().chain(tenant).collect()
    }
}

/// Whose secret is which: one alone, for one server, or a line `SERVER SECRET` for each. Others' lines are
/// left out.
///
/// # Errors
/// Words that go on after the name of where it was found.
fn secrets(text: &str, servers: &[String]) -> Result<Secrets, String> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    if !lines.iter().copied().all(fits) {
        return Err("holds neither user:password nor a token: it has other than ASCII".into());
    }
    let mut secrets = Secrets::new();
    for line in &lines {
        let (name, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let mut named = servers.iter().filter(|base| is(name, base)).peekable();
        match (named.peek().is_some(), lines.len(), servers) {
            (true, ..) => secrets.extend(named.map(|base| (base.clone(), rest.trim().into()))),
            // Another server's, which this one shall not see.
            (false, 1, _) if names_a_server(name) && !rest.is_empty() => {}
            (false, 1, []) => {}
            (false, 1, [base]) => {
                secrets.insert(base.clone(), line.to_string());
            }
            (false, 1, _) => {
                return Err(
                    "holds one secret, and there are several servers: a line HOST:PORT SECRET for \
                            each would say whose it is"
                        .into(),
                );
            }
            (false, ..) if rest.is_empty() => {
                return Err("has several lines, and one of them is not HOST:PORT SECRET".into());
            }
            _ => {}
        }
    }
    Ok(secrets)
}

/// Whether a word before a space is a server: neither a scheme, nor a user and the beginning of a password.
fn names_a_server(word: &str) -> bool {
    let port = word.rsplit_once(':').map(|(_, port)| port);
    !["Basic", "Bearer"].contains(&word) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Whether a server is meant: by its host, or host and port.
fn is(name: &str, base: &str) -> bool {
    let uri: Option<Uri> = base.parse().ok();
    let authority = uri.as_ref().and_then(Uri::authority);
    authority.is_some_and(|authority| authority.as_str() == name || authority.host() == name)
}

fn fits(text: &str) -> bool {
    text.bytes()
        .all(|byte| (0x20..0x7f).contains(&byte) || byte == b'\t')
}

/// `Basic …` of `user:password`, `Bearer …` of a token; what names its scheme already stays.
fn authorization(secret: &str) -> String {
    use base64::Engine;
    if ["Basic ", "Bearer "]
        .iter()
        .any(|scheme| secret.starts_with(scheme))
    {
        return secret.into();
    }
    match secret.contains(':') {
        true => format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(secret)
        ),
        false => format!("Bearer {secret}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        assert_eq!(
            authorization("Aladdin:open sesame"),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert_eq!(authorization("glc_x"), "Bearer glc_x");
        assert_eq!(authorization("Bearer a:b"), "Bearer a:b");
    }

    #[test]
    fn never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "me:secret\n").unwrap();
        let find =
            |servers: &[&str]| Credentials::find(Some(file.path()), Some("team".into()), servers);
        let credentials = find(&["http://a"]).unwrap();
        assert!(!format!("{credentials:?}").contains("secret"));
        assert_eq!(credentials.headers("http://a").len(), 2);
        assert_eq!(credentials.account("http://a"), "team me");
        let said = find(&["http://a", "http://b"]).unwrap_err().to_string();
        assert!(
            said.contains("several servers") && !said.contains("me:"),
            "{said}"
        );
        // A new token is the next connection's.
        std::fs::write(file.path(), "token").unwrap();
        assert_eq!(credentials.headers("http://a")[0].1, "Bearer token");
    }

    #[test]
    fn each_to_its_own_server() {
        let servers = ["http://a:4040".to_string(), "https://b/x".to_string()];
        let found = secrets("# ours\na:4040 me:my secret\nb\ttoken\nc other\n", &servers);
        let found: Vec<String> = found.unwrap().into_values().collect();
        assert_eq!(found, ["me:my secret", "token"]);
        let one = secrets("b token", &servers).unwrap();
        assert_eq!(one.into_keys().collect::<Vec<_>>(), ["https://b/x"]);
        assert!(secrets("token", &servers).is_err());
        for other in ["c:4040 me:secret", "c token", "127.0.0.1:9 me:my secret"] {
            assert!(secrets(other, &servers[..1]).unwrap().is_empty(), "{other}");
        }
        let whole = secrets("me:my secret", &servers[..1]).unwrap();
        assert_eq!(whole["http://a:4040"], "me:my secret");
        assert!(secrets("a t\ntoken", &servers).is_err());
        assert!(secrets("", &servers).unwrap().is_empty());
        assert_eq!(
            secrets("Bearer x y", &servers[..1]).unwrap()["http://a:4040"],
            "Bearer x y"
        );
    }
}
