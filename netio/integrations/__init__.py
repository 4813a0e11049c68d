"""What joins netio to other people's libraries; each module asks for an extra of its own."""
