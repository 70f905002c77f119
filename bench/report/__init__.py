"""Makes the reports of bench/: tables, pictures and the generated parts of README files."""
