//! Entry points of the eBPF programs.
#![no_std]
#![no_main]
