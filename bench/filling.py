"""Large databases for measuring, made by bulk SQL: rows as the product would have left them.

Only rows that what is measured reads: grants, their assignments and the heads of their chains. The
events behind them are not there, so such a database is for timing, never for checking evidence.
"""

AT_ONCE = 20_000
