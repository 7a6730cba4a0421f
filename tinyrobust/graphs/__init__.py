"""What networks have in common as graphs: who reads what, batch norm folded into weight layers, copies with other layers."""
