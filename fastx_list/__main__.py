from fastx_list.command.cli import main

main(prog_name="fastx-list")
