//! What the path of a cgroup says of a container: runtimes name groups after what runs in them.
//!
//! | who | the end of the path |
//! |---|---|
//! | Docker, Podman, CRI-O, containerd, with systemd | `docker-ID.scope`, `libpod-ID.scope`, `crio-ID.scope`, `cri-containerd-ID.scope` |
//! | the same without | `docker/ID`, `libpod_parent/libpod-ID` |
//! | Kubernetes, around those | `kubepods-burstable-podUID.slice`, `kubepods/burstable/podUID` |
//! | systemd-nspawn, LXC | `machine-NAME.scope`, `lxc.payload.NAME`, `lxc/NAME` |

/// What is known of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: Option<String>,
    /// Of its Kubernetes pod, as Kubernetes writes it.
    pub pod: Option<String>,
    /// Where it has one and no id.
    pub name: Option<String>,
}

/// Of the process in this cgroup.
pub fn of(path: &str) -> Container {
    let mut found = Container::default();
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        if let Some(id) = id(part) {
            found.id = Some(id.into());
        } else if let Some(pod) = pod(part) {
            found.pod = Some(pod);
        } else if let Some(name) = part.strip_prefix("lxc.payload.") {
            found.name = Some(name.into());
        } else if part == "lxc" {
            found.name = parts.peek().map(|name| name.to_string());
        } else if let Some(name) = part
            .strip_prefix("machine-")
            .and_then(|part| part.strip_suffix(".scope"))
        {
            found.name = Some(unescaped(name));
        }
    }
    found.name = found.name.filter(|_| found.id.is_none());
    found
}

/// A container's id: alone, or behind its runtime's name.
fn id(part: &str) -> Option<&str> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let (runtime, id) = part.rsplit_once('-').unwrap_or(("", part));
    // What watches over a container is not in it.
    (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) && !runtime.ends_with("conmon"))
        .then_some(id)
}

/// A pod's id: a UUID, or 32 digits for one that the node itself defines. In a slice's name `-` would mean
/// another slice, and `_` stands for it.
fn pod(part: &str) -> Option<String> {
    let part = part.strip_suffix(".slice").unwrap_or(part);
    let (before, uid) = part.rsplit_once("pod")?;
    let known = before.is_empty() || before.starts_with("kubepods-");
    let uid = uid.replace('_', "-");
    let is_id = uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    (known && is_id && [32, 36].contains(&uid.len())).then_some(uid)
}

/// A name as systemd writes it in a unit's: `\x2d` is `-`.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after
            .strip_prefix(b"x")
            .and_then(|after| after.get(..2))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(code) if byte == b'\\' => {
                bytes.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4e0a5d9c1b7e2f3f4e0a5d9c1b7e2f3f4e0a5d9c1b7e2f3f4e0a5d9c1b7e2f";
    const POD: &str = "8a3c1c0e-44a4-4b7e-9d53-0b6f2d1f7a10";

    #[test]
    fn ids() {
        for path in [
            "/system.slice/docker-ID.scope",
            "/docker/ID",
            "/docker/ID/init",
            "/machine.slice/libpod-ID.scope/container",
            "/user.slice/user-0.slice/user@0.service/user.slice/libpod-ID.scope",
        ] {
            let found = of(&path.replace("ID", ID));
            assert_eq!(found.id.as_deref(), Some(ID), "{path}");
            assert_eq!((found.pod, found.name), (None, None), "{path}");
        }
        let conmon = format!("/machine.slice/libpod-conmon-{ID}.scope");
        assert_eq!(of(&conmon), Container::default());
    }

    #[test]
    fn pods() {
        for path in [
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{ID}.scope",
                POD.replace('-', "_")
            ),
            format!(
                "/kubepods.slice/kubepods-pod{}.slice/crio-{ID}.scope",
                POD.replace('-', "_")
            ),
            format!("/kubepods/besteffort/pod{POD}/{ID}"),
        ] {
            let found = of(&path);
            assert_eq!(found.id.as_deref(), Some(ID), "{path}");
            assert_eq!(found.pod.as_deref(), Some(POD), "{path}");
        }
    }

    #[test]
    fn names() {
        for (path, name) in [
            ("/machine.slice/machine-deb\\x2d12.scope/payload", "deb-12"),
            ("/lxc.payload.web", "web"),
            ("/lxc/web/init.scope", "web"),
        ] {
            assert_eq!(of(path).name.as_deref(), Some(name), "{path}");
        }
    }

    #[test]
    fn nothing_of_one() {
        for path in [
            "",
            "/",
            "/user.slice/user-1000.slice/session-3.scope",
            "/system.slice/podman.service",
            "/system.slice/deadbeef.service",
            "/system.slice/docker-short.scope",
            "/tripod/pods",
            "/machine.slice/machine-\\x",
        ] {
            assert_eq!(of(path), Container::default(), "{path}");
        }
    }
}
