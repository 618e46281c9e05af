// SPDX-License-Identifier: MIT
// An index of the JDK's own classes: every constant pool as objects, and who refers to which name.

import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.net.URI;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

class Java {
    record Constant(int tag, int first, int second, Object value) {}

    static List<Constant> pool(byte[] bytes) throws IOException {
        var in = new DataInputStream(new ByteArrayInputStream(bytes));
        in.skipBytes(8);
        int count = in.readUnsignedShort();
        var pool = new ArrayList<Constant>(count);
        for (int i = 1; i < count; i++) {
            int tag = in.readUnsignedByte();
            pool.add(switch (tag) {
                case 1 -> new Constant(tag, 0, 0, in.readUTF());
                case 3 -> new Constant(tag, 0, 0, in.readInt());
                case 4 -> new Constant(tag, 0, 0, in.readFloat());
                case 5 -> new Constant(tag, 0, 0, in.readLong());
                case 6 -> new Constant(tag, 0, 0, in.readDouble());
                case 7, 8, 16, 19, 20 -> new Constant(tag, in.readUnsignedShort(), 0, null);
                case 15 -> new Constant(tag, in.readUnsignedByte(), in.readUnsignedShort(), null);
                default -> new Constant(tag, in.readUnsignedShort(), in.readUnsignedShort(), null);
            });
            if (tag == 5 || tag == 6)
                i++; // these take two places
        }
        return pool;
    }

    public static void main(String[] arguments) throws IOException {
        Map<String, List<Constant>> classes = new TreeMap<>();
        Map<String, List<String>> users = new HashMap<>();
        for (var module : List.of("java.base", "java.xml", "jdk.compiler")) {
            Path root = FileSystems.getFileSystem(URI.create("jrt:/")).getPath("/modules", module);
            try (var files = Files.walk(root)) {
                for (Path file : (Iterable<Path>) files.filter(f -> f.toString().endsWith(".class")).sorted()::iterator) {
                    var pool = pool(Files.readAllBytes(file));
                    classes.put(file.toString(), pool);
                    for (var constant : pool)
                        if (constant.value() instanceof String name)
                            users.computeIfAbsent(name, n -> new ArrayList<>()).add(file.toString());
                }
            }
        }
        System.gc(); // or what is in the heap depends on how long ago the last one was
        System.out.println("corpus: ready");
        System.in.read();
        System.out.println(classes.size() + users.size());
    }
}
