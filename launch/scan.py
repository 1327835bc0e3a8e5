from sam2ft.cli.scan import main
from sam2ft.core.command import run_command

if __name__ == "__main__":
    run_command(main)
