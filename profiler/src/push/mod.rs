//! Profiles to a dashboard. A profile comes in, as a file of ours or anyone's; what its server asks for goes
//! out: one series a service, within the server's limits.
//!
//! | module | what it is |
//! |---|---|
//! | [`pprof_file`] | a profile out of a file that may hold anything |
//! | [`service`] | whose a sample is |
//! | [`series`] | one profile a service, and how a large one is split |
//! | [`destination`] | what a URL says: protocol and place |
//! | [`credentials`] | what a server may ask for: a tenant, a password, a token |
//! | [`protocols`] | what each server is sent, and what its answers mean |
//! | [`client`] | one request, one answer |
//! | [`delivery`] | one profile on its way to one server |
//! | [`files`] | `rprof push`: files that exist |
//! | [`publisher`] | `--push` and `--listen`: what they need, from the beginning to the end of a run |
//! | [`gather`] | the intervals of a run become profiles for each who wants some |
//! | [`listen`] | `--listen`: profiles and figures for who comes for them |
//! | [`spool`] | profiles on disk until a server has them |
//! | [`sender`] | sends what a spool holds |

pub mod client;
pub mod credentials;
pub mod delivery;
pub mod destination;
pub mod files;
pub mod gather;
pub mod listen;
pub mod pprof_file;
pub mod protocols;
pub mod publisher;
pub mod sender;
pub mod series;
pub mod service;
pub mod spool;
