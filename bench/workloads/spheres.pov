// Purpose: a scene for povray: many small spheres in a random heap, and a blob, whose bounding tree and textures are
//          many small objects.
// Who calls it: bench/driver/workloads.py renders it.
// Crash rule: not part of the library.
global_settings { assumed_gamma 1 max_trace_level 5 }
camera { location <0, 6, -18> look_at <0, 1, 0> angle 40 }
light_source { <20, 30, -20> rgb 1 }
plane { y, 0 pigment { checker rgb 0.8 rgb 0.3 } finish { reflection 0.1 } }
#declare Draw = seed(7);
#declare Number = 0;
#while (Number < 5000)
  sphere {
    <16 * rand(Draw) - 8, 5 * rand(Draw), 12 * rand(Draw) - 4>, 0.03 + 0.15 * rand(Draw)
    pigment { rgb <rand(Draw), rand(Draw), rand(Draw)> }
    finish { phong 0.6 reflection 0.15 }
  }
  #declare Number = Number + 1;
#end
blob {
  threshold 0.5
  #declare Number = 0;
  #while (Number < 60)
    sphere { <6 * rand(Draw) - 3, 3 * rand(Draw) + 1, 4 * rand(Draw) - 6>, 0.9, 1 }
    #declare Number = Number + 1;
  #end
  pigment { rgb <0.9, 0.6, 0.2> }
}
