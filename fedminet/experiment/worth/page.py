def write_page(plan, cells): pass
