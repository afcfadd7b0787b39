/// The SQL of a hint, which is what an operator pastes: all from the first statement to the end of
/// the last one. Words may follow.
func statements(in hint: String?) -> String {
    guard let hint else { return "" }
    let starts = ["ALTER ", "CREATE ", "GRANT ", "DELETE ", "DROP ", "UPDATE "].compactMap {
        hint.range(of: $0)?.lowerBound
    }
    guard let start = starts.min() else { return "" }
    guard let end = hint[start...].lastIndex(of: ";") else { return String(hint[start...]) }
    return String(hint[start...end])
}

extension String {
    fileprivate func range(of text: String) -> Range<String.Index>? { ranges(of: text).first }
}
