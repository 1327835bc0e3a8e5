from sam2ft.cli.eval import main
from sam2ft.core.command import command

if __name__ == "__main__":
    command(main)
