//! The one binary, `ixgate`.

use ixgate::io::memory::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> std::process::ExitCode {
    ixgate::cli::main()
}
