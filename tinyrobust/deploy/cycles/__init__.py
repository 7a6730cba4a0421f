"""Modelled cycles of a generated program: every basic block counted, and priced by the core's Technical Reference Manual."""
