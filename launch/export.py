from sam2ft.cli.export import main
from sam2ft.core.command import run_command

if __name__ == "__main__":
    run_command(main)
