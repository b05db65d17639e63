"""Who may do what with the admin API: who calls (`identity`), what it needs (`needs`), and what happens when it is not
enough (`refusals`). `guard` asks them in front of every call.
"""
