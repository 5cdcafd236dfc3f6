//! What rprof makes of bytes that a reader sends, whatever they are: so that tests can try any.

use std::fs::File;
use std::io::Read;

use rprof_unwind::slice::FrameInfo;

use super::MAX_CFI;
use super::protocol::{MAX_BYTES, Reply, receive};

/// Takes replies and what follows them, until one makes no sense. Not for use: a real reply comes
/// through a socket, to one question.
#[doc(hidden)]
pub fn take_any(mut bytes: &[u8]) {
    let mut len = [0; 8];
    while bytes.read_exact(&mut len).is_ok() {
        let Ok(mut reply) = receive::<Reply>(&mut bytes, u64::from_le_bytes(len), MAX_BYTES) else {
            return;
        };
        if reply == Reply::default() {
            let _ = FrameInfo::read_from(&mut &*bytes, MAX_CFI);
        }
        let names = reply.names.as_ref();
        if let Some((asked, more)) = names.map(|names| names.named(&[7; 100])) {
            let more = more.into_iter().map(|(_, named)| named);
            let lines: usize = asked.into_iter().chain(more).map(|n| n.lines.len()).sum();
            assert!(lines <= bytes.len().max(MAX_BYTES as usize));
        }
        if let Some(fields) = &reply.memory {
            fields.of(100).count();
        }
        if let Some(begun) = &reply.begun {
            begun.place();
        }
        let file = File::open("/dev/null").ok().map(Into::into);
        let _ = reply.found(file, None);
        if reply.rows(&mut bytes).is_err() {
            return;
        }
    }
}
