// A photograph to its NetVLAD descriptor, with ONNX Runtime and the C++ standard library alone.
//
//     cmake -S examples/cpp -B build -DCMAKE_PREFIX_PATH=ONNXRUNTIME && cmake --build build
//     build/describe model.onnx query.ppm query.f32
//
// ONNXRUNTIME is a folder with include/ and lib/, such as an unpacked release of ONNX Runtime.
// model.onnx was written by `netvlad-convert` without --layout and --input-dtype. query.ppm is a
// binary PPM of 8 bits: RGB, upright, at its own size. Nothing else is done to its bytes, since
// the mean is subtracted inside the file. This makes one of any photograph:
//
//     from PIL import Image, ImageOps
//     ImageOps.exif_transpose(Image.open("query.jpg")).convert("RGB").save("query.ppm")
//
// query.f32 becomes the descriptor: numpy.fromfile("query.f32", "float32"), of length 1.
// On Windows give Ort::Session a wide string.

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

struct Photograph {
    std::array<std::int64_t, 4> shape;  // 1, height, width, 3
    std::vector<float> values;          // RGB, 0 to 255
};

Photograph read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string kind;
    std::int64_t width = 0, height = 0, largest = 0;
    file >> kind >> width >> height >> largest;
    if (!file || kind != "P6" || largest != 255 || width < 1 || height < 1)
        throw std::runtime_error(path + ": not a binary PPM (P6) of 8 bits, without comments");
    file.get();  // the one white space before the pixels
    std::vector<char> bytes(static_cast<std::size_t>(height * width * 3));
    if (!file.read(bytes.data(), static_cast<std::streamsize>(bytes.size())))
        throw std::runtime_error(path + ": ends before its last pixel");
    const auto* first = reinterpret_cast<const unsigned char*>(bytes.data());
    return {{1, height, width, 3}, {first, first + bytes.size()}};
}

int main(int argc, char** argv) try {
    if (argc != 4) throw std::runtime_error("usage: describe MODEL.onnx IMAGE.ppm OUTPUT.f32");
    Photograph taken = read_ppm(argv[2]);
    Ort::Env env;
    Ort::Session session(env, argv[1], Ort::SessionOptions());
    auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    auto image = Ort::Value::CreateTensor<float>(
        memory, taken.values.data(), taken.values.size(), taken.shape.data(), taken.shape.size());
    const char *input = "image", *output = "descriptor";
    auto found = session.Run(Ort::RunOptions(), &input, &image, 1, &output, 1);
    const auto dimension = found[0].GetTensorTypeAndShapeInfo().GetElementCount();
    std::ofstream file(argv[3], std::ios::binary);
    file.write(reinterpret_cast<const char*>(found[0].GetTensorData<float>()),
               static_cast<std::streamsize>(dimension * sizeof(float)));
    if (!file.flush()) throw std::runtime_error(std::string(argv[3]) + ": cannot be written");
} catch (const std::exception& error) {
    std::cerr << "describe: " << error.what() << '\n';
    return 1;
}
