//! Whose a sample is, for a dashboard: the service that someone is on call for, not one of its processes.
//! Labels of a sample come in; a few names leave, few enough that each can be a series.

/// What tells one series of a machine from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Service {
    /// `nginx`, from its systemd unit; else the program's name; [`KERNEL`] for the kernel's own threads.
    pub name: String,
    /// The path of its cgroup, as far as that lasts, where there is one and it is no container's.
    pub cgroup: Option<String>,
    /// Its container's id.
    pub container_id: Option<String>,
    /// Its container's name, where the runtime names its cgroup so.
    pub container: Option<String>,
    /// The id of its Kubernetes pod.
    pub pod_uid: Option<String>,
}

/// The kernel's threads are one service: their names have numbers in them.
pub const KERNEL: &str = "kernel";
/// What has no name.
const UNKNOWN: &str = "unknown";

/// The service of a process whose samples have these labels.
pub fn of<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Service {
    let own = |key| label(key).map(Into::into);
    let unit = label("cgroup").and_then(unit);
    let name = unit
        .or(label("comm"))
        .filter(|name| !name.is_empty())
        .unwrap_or(UNKNOWN);
    Service {
        name: name.into(),
        cgroup: label("cgroup").and_then(lasting).map(Into::into),
        container_id: own("container_id"),
        container: own("container"),
        pod_uid: own("pod_uid"),
    }
}

/// The kernel's own.
pub fn kernel() -> Service {
    Service {
        name: KERNEL.into(),
        ..Service::default()
    }
}

/// The innermost systemd unit of a path: `/system.slice/nginx.service` is nginx. A user's manager
/// (`user@1000.service`) holds other units, and says nothing of what runs in none of them. An instance
/// (`getty@tty1.service`) belongs to its template.
fn unit(path: &str) -> Option<&str> {
    let mut units = path
        .rsplit('/')
        .filter_map(|part| part.strip_suffix(".service"));
    let unit = units.find(|unit| !unit.starts_with("user@") && !unit.starts_with(PASSING))?;
    unit.split('@').next()
}

/// How `systemd-run` calls what it runs, each time anew.
const PASSING: &str = "run-";

/// The part of a path that is there again tomorrow. Scopes are sessions and windows, named by numbers; so are
/// instances (`sshd@7-….service`), but for a user's manager.
fn lasting(path: &str) -> Option<&str> {
    let passes = |part: &str| {
        let instance = part.contains('@') && !part.starts_with("user@");
        part.ends_with(".scope") || instance || part.starts_with(PASSING)
    };
    let mut end = 0;
    for part in path.split_inclusive('/') {
        if passes(part.trim_end_matches('/')) {
            break;
        }
        end += part.len();
    }
    let lasting = path.get(..end)?.trim_end_matches('/');
    Some(lasting).filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_before_programs() {
        for (cgroup, name) in [
            ("/system.slice/nginx.service", "nginx"),
            (
                "/system.slice/system-getty.slice/getty@tty1.service",
                "getty",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-editor.service",
                "app-editor",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/init.scope",
                "comm",
            ),
            ("/user.slice/user-1000.slice/session-3.scope", "comm"),
            ("/system.slice/docker.service/nested", "docker"),
            ("/system.slice/run-u123.service", "comm"),
        ] {
            let service = of(|key| match key {
                "comm" => Some("comm"),
                "cgroup" => Some(cgroup),
                _ => None,
            });
            assert_eq!(service.name, name, "{cgroup}");
        }
        assert_eq!(of(|_| None).name, "unknown");
    }

    #[test]
    fn what_is_there_again_tomorrow() {
        for (path, lasts) in [
            ("/", None),
            ("/init.scope", None),
            (
                "/system.slice/nginx.service",
                Some("/system.slice/nginx.service"),
            ),
            (
                "/user.slice/user-1000.slice/session-37.scope",
                Some("/user.slice/user-1000.slice"),
            ),
            (
                "/system.slice/system-sshd.slice/sshd@12-10.0.0.1:22-x.service",
                Some("/system.slice/system-sshd.slice"),
            ),
            (
                "/user.slice/user@1000.service/app.slice/app-firefox-4242.scope/x",
                Some("/user.slice/user@1000.service/app.slice"),
            ),
            (
                "/system.slice/run-r0123456789abcdef.service",
                Some("/system.slice"),
            ),
            ("/jobs/build/", Some("/jobs/build")),
        ] {
            assert_eq!(lasting(path), lasts, "{path}");
        }
    }
}
