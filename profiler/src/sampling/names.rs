//! Names for what was sampled, looked up once at the end: each module once, however many processes
//! map it, and only for the places that were sampled.

use std::collections::HashMap;
use std::os::fd::AsFd;

use rprof_ebpf::module::ModuleId;
use rprof_symbolize::module_names::{ModuleNames, Options};
use rprof_symbolize::{ErrorKind, kernel};

use super::modules::{Content, Modules};
use crate::profile::{self, Frame, Line, Names, Profile};

/// Names of all native and kernel frames of a profile.
#[derive(Debug, Default)]
pub struct Named {
    native: HashMap<(ModuleId, u64), Vec<Line>>,
    kernel: HashMap<u64, Line>,
    modules: HashMap<ModuleId, profile::Module>,
    /// What could not be read, for `-v`.
    pub left_out: Vec<String>,
}

impl Named {
    /// Looks up the names of a profile's frames.
    pub fn look_up(profile: &Profile, modules: &Modules, inlines: bool) -> Self {
        let mut named = Self {
            left_out: modules.notes(),
            ..Self::default()
        };
        let mut places: HashMap<ModuleId, Vec<u64>> = HashMap::new();
        let mut addresses = Vec::new();
        profile.each_frame(&mut |frame| match frame {
            Frame::Kernel(address) => addresses.push(*address),
            Frame::Native { module, offset } => places.entry(*module).or_default().push(*offset),
            _ => {}
        });
        named.look_up_kernel(&addresses);
        let mut ids: Vec<ModuleId> = places.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            named.look_up_module(id, &places[&id], modules, inlines);
        }
        named
    }

    fn look_up_kernel(&mut self, addresses: &[u64]) {
        if addresses.is_empty() {
            return;
        }
        match kernel::names(addresses) {
            Ok(lines) => {
                for (address, line) in addresses.iter().zip(lines) {
                    let Some(line) = line else { continue };
                    let named = Line {
                        function: line.function,
                        ..Line::default()
                    };
                    self.kernel.insert(*address, named);
                }
            }
            Err(error) => self.left_out.push(format!("kernel functions: {error}")),
        }
    }

    fn look_up_module(&mut self, id: ModuleId, offsets: &[u64], modules: &Modules, inlines: bool) {
        let Some(module) = modules.get(id) else {
            return;
        };
        let mut about = profile::Module {
            path: module.path.clone(),
            build_id: String::new(),
            size: module.key.size,
        };
        let options = Options {
            inlines,
            path: Some(module.path.clone().into()),
            ..Options::default()
        };
        let opened = match &module.content {
            Ok(Content::File(file)) => file
                .as_fd()
                .try_clone_to_owned()
                .map_err(|error| error.to_string())
                .and_then(|fd| {
                    ModuleNames::open(fd.into(), options).map_err(|error| error.to_string())
                }),
            Ok(Content::Image(bytes)) => {
                about.size = bytes.len() as u64;
                ModuleNames::of_bytes(bytes.clone(), options).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.clone()),
        };
        match opened {
            Ok(names) => {
                about.build_id = names
                    .build_id()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                let found = names.names(offsets);
                for error in found.left_out {
                    if error.kind() != ErrorKind::NotFound {
                        self.left_out.push(format!("{}: {error}", module.path));
                    }
                }
                for (&offset, lines) in offsets.iter().zip(found.lines) {
                    let lines = lines.into_iter().map(line).collect();
                    self.native.insert((id, offset), lines);
                }
            }
            Err(error) => self.left_out.push(format!("{}: {error}", module.path)),
        }
        self.modules.insert(id, about);
    }
}

fn line(line: rprof_symbolize::Line) -> Line {
    Line {
        function: line.function,
        file: line.file,
        line: line.line,
        first_line: line.first_line,
    }
}

impl Names for Named {
    fn module(&self, id: ModuleId) -> profile::Module {
        self.modules.get(&id).cloned().unwrap_or_default()
    }

    fn native(&self, module: ModuleId, offset: u64) -> Vec<Line> {
        self.native
            .get(&(module, offset))
            .cloned()
            .unwrap_or_default()
    }

    fn kernel(&self, address: u64) -> Option<Line> {
        self.kernel.get(&address).cloned()
    }
}
