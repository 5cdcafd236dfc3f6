//! A server's certificate, and who vouches for it, whom nobody else knows.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;

use crate::scratch::Scratch;

/// A certificate for one name.
pub struct Certificate {
    /// A server that shows it.
    pub config: rustls::ServerConfig,
    /// Who vouches for it, as `--ca` reads it.
    pub authority: PathBuf,
    /// Itself, and its key.
    pub files: [PathBuf; 2],
}

/// One for this name.
pub fn for_name(scratch: &Scratch, name: &str) -> Certificate {
    let mut authority = CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = || KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(authority, key()).expect("signed");
    let own = key();
    let server = CertificateParams::new(vec![name.to_string()]).expect("a name");
    let server = server.signed_by(&own, &authority).expect("signed");
    let file = |what: &str, pem: String| scratch.write(&format!("{name}-{what}.pem"), &pem);
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![server.der().clone()],
            PrivateKeyDer::Pkcs8(own.serialize_der().into()),
        );
    Certificate {
        config: config.expect("they fit"),
        authority: file("authority", authority.pem()),
        files: [file("own", server.pem()), file("key", own.serialize_pem())],
    }
}
