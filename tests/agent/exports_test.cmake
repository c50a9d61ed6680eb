# cmake -DNM=<nm> -DLIBRARY=<libgradtap_agent.so> -P exports_test.cmake
# Fails if the library defines a dynamic symbol outside gradtap::, or one of
# gradtap's internals, or lacks its public ones.

execute_process(COMMAND ${NM} -DC --defined-only ${LIBRARY}
  OUTPUT_VARIABLE out RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "${NM} failed on ${LIBRARY}")
endif()
# Names have brackets and semicolons, which CMake's lists would swallow.
string(REGEX REPLACE "[][;]" "_" out "${out}")
string(REGEX REPLACE "\n+$" "" out "${out}")
string(REPLACE "\n" ";" symbols "${out}")

set(bad 0)
foreach(symbol IN LISTS symbols)
  string(REGEX REPLACE "^[0-9a-f]* *[A-Za-z] " "" name "${symbol}")
  if(NOT name MATCHES "^(typeinfo for |typeinfo name for |vtable for )?gradtap::"
     OR name MATCHES "^[^(]*gradtap::(agent|v1|Agent::Impl)::")
    message("not for others: ${name}")
    math(EXPR bad "${bad} + 1")
  endif()
endforeach()
foreach(wanted Agent::Attach Agent::Step Agent::status DescribeParameters
    ParameterTable::ToString Scalar::Scalar NamedTensor::NamedTensor)
  if(NOT out MATCHES "gradtap::${wanted}")
    message("not exported: gradtap::${wanted}")
    math(EXPR bad "${bad} + 1")
  endif()
endforeach()
if(bad)
  message(FATAL_ERROR "${bad} symbol(s) are wrong in ${LIBRARY}")
endif()
