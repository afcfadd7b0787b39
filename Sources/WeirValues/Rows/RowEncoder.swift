package import WeirCore
package import WeirJSON

/// Encodes one row image at a time, for sinks that store rows and not lines.
package struct RowEncoder: ~Copyable {
    private var rows = RowWriter()

    package init() {}

    /// Appends `{"name":value,…}` with the projection's fields, or a whole document; a value the
    /// source did not send is left out, and so is one whose path leads to nothing.
    package mutating func append(
        _ image: Slice, of projection: borrowing Projection, in batch: BatchView,
        into writer: inout JSONWriter
    ) {
        rows.begin(projection)
        rows.appendObject(projection.fields, of: image, in: batch, projection, into: &writer)
    }
}

extension Projection {
    /// The output name of a field as it is, for places that are no JSON.
    package func plainName(of field: Field) -> [UInt8] {
        Array(outputNames[field.slot].utf8)
    }

    /// Where the field's value is, for a `PlainRenderer`.
    package func reference(of field: Field) -> FieldReference {
        let path: [[UInt8]]
        if case .path(let index) = field.place { path = paths[Int(index)] } else { path = [] }
        return FieldReference(
            column: field.column, path: path, of: schema,
            options: ValueOptions(documents: field.kind.documents))
    }
}
