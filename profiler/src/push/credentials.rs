//! What a server may ask for: a tenant, a password, a token. They come from the environment or a file,
//! because a command line is for everyone to read; nothing here shows them.

use std::fmt;
use std::path::Path;

use crate::cli::Failure;

/// The environment's `Authorization`: `user:password`, or a token.
pub const VARIABLE: &str = "RPROF_PUSH_AUTH";

/// Who we are to a server.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The value of the header `Authorization`.
    authorization: Option<String>,
    /// The value of the header `X-Scope-OrgID`.
    pub tenant: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.authorization.as_ref().map(|_| "…");
        f.debug_struct("Credentials")
            .field("authorization", &shown)
            .field("tenant", &self.tenant)
            .finish()
    }
}

impl Credentials {
    /// From a file, else from the environment.
    ///
    /// # Errors
    /// A file that cannot be read, or what cannot stand in a header.
    pub fn find(file: Option<&Path>, tenant: Option<String>) -> Result<Self, Failure> {
        let (secret, origin) = match file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Failure::file("read", path, &error))?;
                (Some(text), path.display().to_string())
            }
            None => {
                let text =
                    std::env::var_os(VARIABLE).map(|text| text.to_string_lossy().into_owned());
                (text, VARIABLE.into())
            }
        };
        let secret = secret
            .map(|text| text.trim().to_string())
            .filter(|text| !text.is_empty());
        let fits = |text: &str| text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if secret.as_deref().is_some_and(|text| !fits(text)) {
            return Err(Failure::new(format!(
                "{origin} holds neither user:password nor a token: it has several lines, or other than ASCII"
            )));
        }
        if tenant.as_deref().is_some_and(|text| !fits(text)) {
            return Err(Failure::usage("--tenant can be ASCII only"));
        }
        Ok(Self {
            authorization: secret.as_deref().map(authorization),
            tenant,
        })
    }

    /// Headers to send.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let authorization = self
            .authorization
            .as_deref()
            .map(|value| ("authorization", value));
        let tenant = self.tenant.as_deref().map(|value| ("x-scope-orgid", value));
        authorization.into_iter().chain(tenant)
    }
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
        let credentials = Credentials::find(Some(file.path()), Some("team".into())).unwrap();
        assert!(!format!("{credentials:?}").contains("secret"));
        assert_eq!(credentials.headers().count(), 2);
    }
}
