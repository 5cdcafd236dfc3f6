//! Which CPUs are online, looked at once a second: the file stays open.

use std::fs::File;
use std::os::unix::fs::FileExt;

const ONLINE: &str = "/sys/devices/system/cpu/online";

/// The CPUs that are to be sampled now.
pub(super) struct Online {
    /// `None`: those that were named.
    file: Option<File>,
    /// What it said when it was read last.
    said: Vec<u8>,
    cpus: Vec<u32>,
}

impl Online {
    /// Of these CPUs; `follow`: of all that are online at a time.
    pub(super) fn new(cpus: &[u32], follow: bool) -> Self {
        Self {
            file: follow.then(|| File::open(ONLINE).ok()).flatten(),
            said: Vec::new(),
            cpus: cpus.to_vec(),
        }
    }

    /// Those that are online now, or the last ones known.
    pub(super) fn now(&mut self) -> &[u32] {
        let mut text = [0; 4096];
        let read = self.file.as_ref().map(|file| file.read_at(&mut text, 0));
        if let Some(Ok(len)) = read
            && let Some(text) = text.get(..len)
            && self.said != text
        {
            self.said = text.to_vec();
            let cpus = std::str::from_utf8(text).ok();
            if let Some(Ok(cpus)) = cpus.map(|text| crate::cli::values::cpus(text.trim())) {
                self.cpus = cpus.0;
            }
        }
        &self.cpus
    }
}

#[cfg(test)]
mod tests {
    use super::Online;

    #[test]
    fn all_that_are_online() {
        let all = std::thread::available_parallelism().expect("CPUs").get();
        let mut online = Online::new(&[7777], true);
        // We may be bound to some of them.
        assert!(online.now().len() >= all && !online.now().contains(&7777));
        let mut named = Online::new(&[1], false);
        assert_eq!(named.now(), [1]);
    }
}
