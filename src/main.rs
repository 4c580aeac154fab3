//! The one binary, `ixgate`.

fn main() -> std::process::ExitCode {
    ixgate::cli::main()
}
