pub mod check;
pub mod diagnostics;
pub mod keygen;
