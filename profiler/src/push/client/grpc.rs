//! Requests by gRPC: unary calls, whose messages are bytes to us.

use std::error::Error;

use bytes::{Buf, BufMut};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use tokio::runtime::{Builder, Runtime};
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    ANSWER, Answer, LONGEST_WAIT, Request, TO_ANSWER, TO_CONNECT, USER_AGENT, no_answer, words,
};

/// The way to one server. What it does happens while a request is under way: it has no thread of its own.
pub struct Connection {
    ready: Result<(Runtime, Channel), String>,
    headers: Vec<(&'static str, String)>,
}

impl Connection {
    pub(super) fn new(
        base: &str,
        headers: Vec<(&'static str, String)>,
        roots: &[CertificateDer<'static>],
    ) -> Self {
        Self {
            ready: channel(base, roots).map_err(|error| innermost(&*error)),
            headers,
        }
    }

    pub(super) fn send(&self, request: &Request) -> Answer {
        let (runtime, channel) = match &self.ready {
            Ok(ready) => ready,
            Err(why) => return Answer::Denied(why.clone()),
        };
        let mut message = tonic::Request::new(request.body.clone());
        let own = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        for (name, value) in own.chain(request.headers.iter().copied()) {
            // What fits no header was refused at the beginning.
            if let Ok(value) = MetadataValue::try_from(value) {
                message.metadata_mut().insert(name, value);
            }
        }
        let call = async {
            let mut client = tonic::client::Grpc::new(channel.clone())
                .max_decoding_message_size(ANSWER)
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
            client
                .ready()
                .await
                .map_err(|error| Status::from_error(error.into()))?;
            let path = PathAndQuery::from_static(request.path);
            client.unary(message, path, Raw).await
        };
        let answer = runtime.block_on(async { tokio::time::timeout(TO_ANSWER, call).await });
        match answer {
            Ok(Ok(answer)) => Answer::Taken(answer.into_inner()),
            Ok(Err(status)) => sorted(&status),
            Err(_) => no_answer(),
        }
    }
}

fn channel(
    base: &str,
    roots: &[CertificateDer<'static>],
) -> Result<(Runtime, Channel), Box<dyn Error>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut endpoint = Endpoint::from_shared(base.to_string())?
        .connect_timeout(TO_CONNECT)
        .user_agent(USER_AGENT)?;
    if base.starts_with("https:") {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        endpoint = endpoint
            .tls_config(ClientTlsConfig::new().trust_anchors(store.roots.iter().cloned()))?;
    }
    let entered = runtime.enter();
    let channel = endpoint.connect_lazy();
    drop(entered);
    Ok((runtime, channel))
}

/// What a code asks for (docs/specification.md of opentelemetry-proto, 1.11: which may be asked again).
fn sorted(status: &Status) -> Answer {
    let wait = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay)
        .map(|wait| wait.min(LONGEST_WAIT))
        .filter(|wait| !wait.is_zero());
    let said = said(status);
    match status.code() {
        Code::Unavailable if status.source().is_some() && wait.is_none() => Answer::Away(said),
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Answer::Later(said, wait),
        // With a time to wait: as 429. Without: a message that is too large, say.
        Code::ResourceExhausted if wait.is_some() => Answer::Later(said, wait),
        Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented | Code::NotFound => {
            Answer::Denied(said)
        }
        // Below gRPC: no server of it, or one that is just starting.
        Code::Unknown | Code::Internal if status.source().is_some() => Answer::Away(said),
        _ => Answer::Refused(said),
    }
}

fn said(status: &Status) -> String {
    match (status.source(), words(status.message())) {
        (Some(source), _) => innermost(source),
        (None, words) if words.is_empty() => format!("it answers {:?}", status.code()),
        (None, words) if status.code() == Code::Unavailable => words,
        (None, words) => format!("it answers {:?}: {words}", status.code()),
    }
}

/// What lies below "transport error".
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    match error.downcast_ref::<std::io::Error>() {
        Some(error) => crate::cli::failure::reason(error),
        None => words(&error.to_string()),
    }
}

/// Messages are bytes.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; from.remaining()];
        from.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tonic_types::ErrorDetails;

    #[test]
    fn what_a_code_asks_for() {
        let sorted = |code| sorted(&Status::new(code, "why"));
        assert_eq!(sorted(Code::Unavailable), Answer::Later("why".into(), None));
        assert_eq!(
            sorted(Code::InvalidArgument),
            Answer::Refused("it answers InvalidArgument: why".into())
        );
        assert!(matches!(
            sorted(Code::ResourceExhausted),
            Answer::Refused(_)
        ));
        assert!(matches!(sorted(Code::Unauthenticated), Answer::Denied(_)));
        assert!(matches!(sorted(Code::Unimplemented), Answer::Denied(_)));
    }

    #[test]
    fn a_time_to_wait() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
        let status = Status::with_error_details(Code::ResourceExhausted, "slowly", details);
        let Answer::Later(_, wait) = sorted(&status) else {
            panic!("{status}");
        };
        assert_eq!(wait, Some(Duration::from_secs(7)));
    }
}
