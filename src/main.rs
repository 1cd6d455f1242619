//! The command `weir`. Everything it does is in the library; see `weir::cli`.

use std::process::ExitCode;

/// See ADR 24.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    weir::cli::main()
}
