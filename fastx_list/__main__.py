from fastx_list.command.cli import main

main()
