"""What a study does: score, plan, hand out, receive, train. Server and scripts only translate."""
