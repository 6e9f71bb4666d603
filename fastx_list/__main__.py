from fastx_list.cli import main

main()
