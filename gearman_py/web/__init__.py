"""gearman-web: a page for operators about all job servers as one.

It needs the extra ``web``; nothing outside this package imports it but the command.
"""
